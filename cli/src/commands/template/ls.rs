//! `hyperrun template ls`: which templates there are.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use images::{Digest, Image, Reference};
use runtime::templates::Listed;
use serde_json::{Value, json};

use super::templates;
use crate::arguments::Common;
use crate::commands::images::{at, since};
use crate::commands::{open_store, print};
use crate::failure::Failure;
use crate::listing::Listing;
use crate::words;

/// List templates, the one used last first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun template ls --format '{{.Name}}: {{.Size}}'")]
pub(crate) struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// Print a table, JSON, or what a template makes of each: table, 'table TEMPLATE', json, TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// The image of a template that serves all.
const ANY: &str = "<any>";

const LISTING: Listing<'_> = Listing {
    table: "{{.Name}}\t{{.Image}}\t{{.Memory}}\t{{.CPUs}}\t{{.Size}}\t{{.LastUsed}}",
    headers: &[
        ("Name", "TEMPLATE"),
        ("Image", "IMAGE"),
        ("ImageID", "IMAGE ID"),
        ("Memory", "MEMORY"),
        ("CPUs", "CPUS"),
        ("Size", "SIZE"),
        ("LastUsed", "LAST USED"),
        ("LastUsedAt", "LAST USED AT"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Kernel", "KERNEL"),
    ],
};

/// Prints a line for each template.
pub(crate) fn run(args: &LsArgs, common: &Common) -> Result<ExitCode, Failure> {
    let listed = templates(common)?.list()?;
    let text = match &args.format {
        None if args.quiet => listed.iter().map(|template| template.key.clone() + "\n").collect(),
        format => {
            let images = open_store(common)?.list()?;
            let rows: Vec<Value> = listed.iter().map(|template| row(template, &images)).collect();
            LISTING.lay_out(format.as_deref(), &rows)?
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn row(template: &Listed, images: &[Image]) -> Value {
    let known = template.description.as_ref();
    let unknown = || "N/A".to_owned();
    let created = known
        .and_then(|known| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(known.created)));
    json!({
        "Name": template.key,
        "Image": template.image().map_or_else(|| ANY.to_owned(), |id| name(id, images)),
        "ImageID": template.image().map_or_else(String::new, |id| id.short()),
        "Memory": known.map_or_else(unknown, |known| format!("{}MiB", known.memory_mib)),
        "CPUs": known.map_or_else(unknown, |known| known.vcpus.to_string()),
        "Size": words::size(template.bytes),
        "LastUsed": since(Some(template.used)),
        "LastUsedAt": at(Some(template.used)),
        "CreatedSince": since(created),
        "CreatedAt": at(created),
        "Kernel": known.map_or_else(unknown, |known| known.kernel.display().to_string()),
    })
}

/// What a person knows an image by.
fn name(id: Digest, images: &[Image]) -> String {
    let image = images.iter().find(|image| image.id == id);
    let reference = image.and_then(|image| image.references.first());
    reference.map_or_else(|| id.short(), Reference::familiar)
}
