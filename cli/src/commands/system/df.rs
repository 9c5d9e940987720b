//! `hyperrun system df`: what takes how much of the disk.

use std::process::ExitCode;

use images::{ImageUsage, Reference, Usage};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::images::since;
use crate::commands::{containers, open_store, print};
use crate::failure::Failure;
use crate::listing::Listing;
use crate::words;

/// Show what takes how much of the disk
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun system df -v")]
pub(crate) struct DfArgs {
    /// Show each image, and what it shares with others
    #[arg(short, long)]
    verbose: bool,
    /// Print a table, JSON, or what a template makes of each: table, 'table TEMPLATE', json, TEMPLATE
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    format: Option<String>,
}

const LISTING: Listing<'_> = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

const IMAGES: Listing<'_> = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t\
            {{.UniqueSize}}",
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

/// Prints one table.
pub(crate) fn run(args: &DfArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    let usage = open_store(common)?.usage(&|image| all.image_user(image))?;
    let text = if args.verbose {
        let rows: Vec<Value> = usage.images.iter().map(image_row).collect();
        format!("Images space usage:\n\n{}", IMAGES.lay_out(None, &rows)?)
    } else {
        LISTING.lay_out(args.format.as_deref(), &[images_row(&usage)])?
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Reclaimable is what no running container needs: of several images that share something, it
/// counts when none of them is used, so it is what a `prune --all` would free.
fn images_row(usage: &Usage) -> Value {
    let active = usage.images.iter().filter(|usage| usage.in_use);
    let reclaimable = usage.reclaimable;
    let percent = (reclaimable * 100).checked_div(usage.total).unwrap_or(0);
    json!({
        "Type": "Images",
        "TotalCount": usage.images.len().to_string(),
        "Active": active.count().to_string(),
        "Size": words::size(usage.total),
        "Reclaimable": format!("{} ({percent}%)", words::size(reclaimable)),
    })
}

fn image_row(usage: &ImageUsage) -> Value {
    let none = || "<none>".to_owned();
    let name = usage.image.references.first();
    json!({
        "Repository": name.map_or_else(none, Reference::familiar_name),
        "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "ID": usage.image.id.short(),
        "CreatedSince": since(usage.image.created),
        "Size": words::size(usage.shared + usage.unique),
        "SharedSize": words::size(usage.shared),
        "UniqueSize": words::size(usage.unique),
    })
}
