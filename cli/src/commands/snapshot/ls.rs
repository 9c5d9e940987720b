//! `hyperrun snapshot ls`: which snapshots there are.

use std::process::ExitCode;

use runtime::snapshots::Snapshot;
use serde_json::{Value, json};

use super::snapshots;
use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;
use crate::filter::Filter;
use crate::filter::snapshots::WantedSnapshots;
use crate::listing::Listing;
use crate::words;

/// List snapshots, the youngest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun snapshot ls --format '{{.Name}}: {{.Size}}'")]
pub(crate) struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show only some: name=, container=, image=, label=KEY[=VALUE]
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Print a table, JSON, or what a template makes of each: table, 'table TEMPLATE', json, TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const LISTING: Listing<'_> = Listing {
    table: "{{.Name}}\t{{.Container}}\t{{.Image}}\t{{.Memory}}\t{{.Size}}\t{{.CreatedSince}}",
    headers: &[
        ("Name", "NAME"),
        ("ID", "SNAPSHOT ID"),
        ("Container", "CONTAINER"),
        ("ContainerID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("ImageID", "IMAGE ID"),
        ("Memory", "MEMORY"),
        ("CPUs", "CPUS"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Labels", "LABELS"),
    ],
};

/// Prints a line for each snapshot.
pub(crate) fn run(args: &LsArgs, common: &Common) -> Result<ExitCode, Failure> {
    let wanted = WantedSnapshots::read(&args.filter)?;
    let mut all = snapshots(common)?.list()?;
    all.retain(|snapshot| wanted.snapshot(snapshot));
    let text = match &args.format {
        None if args.quiet => all.iter().map(|snapshot| snapshot.name.clone() + "\n").collect(),
        format => {
            let rows: Vec<Value> = all.iter().map(|snapshot| args.row(snapshot)).collect();
            LISTING.lay_out(format.as_deref(), &rows)?
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl LsArgs {
    fn id<'a>(&self, id: &'a str) -> &'a str {
        if self.no_trunc { id } else { words::short_id(id) }
    }

    fn row(&self, snapshot: &Snapshot) -> Value {
        let known = &snapshot.description;
        let record = &known.container;
        json!({
            "Name": snapshot.name,
            "ID": self.id(&known.id),
            "Container": record.name,
            "ContainerID": self.id(&record.id),
            "Image": record.image,
            "ImageID": self.id(&record.image_id),
            "Memory": words::binary_size(snapshot.memory_bytes()),
            "CPUs": record.vm.vcpus.to_string(),
            "Size": words::size(snapshot.bytes()),
            "CreatedSince": words::ago(known.created.age()),
            "CreatedAt": known.created.to_text(),
            "Labels": words::pairs(&record.keeping.labels),
        })
    }
}
