//! `hyperrun system df`: what takes how much of the disk.

use std::process::ExitCode;

use images::{ImageUsage, Reference, Usage};
use runtime::Found;
use runtime::snapshots::{Snapshot, bytes_of_all};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::images::since;
use crate::commands::ps::{Length, command, is_up, status};
use crate::commands::snapshot::snapshots;
use crate::commands::{containers, open_store, print};
use crate::failure::Failure;
use crate::listing::Listing;
use crate::words;

/// Show what takes how much of the disk
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun system df -v")]
pub(crate) struct DfArgs {
    /// Show each image with what it shares with others, and each container
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

const CONTAINERS: Listing<'_> = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t\
            {{.Status}}\t{{.Names}}",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
};

/// Prints a table of what there is, or of each image and each container.
pub(crate) fn run(args: &DfArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    let (usage, found) =
        (open_store(common)?.usage(&|image| all.image_user(image))?, all.list_unread()?);
    let text = if args.verbose {
        let rows: Vec<Value> = usage.images.iter().map(image_row).collect();
        let containers: Vec<Value> = found.iter().map(container_row).collect();
        format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}",
            IMAGES.lay_out(None, &rows)?,
            CONTAINERS.lay_out(None, &containers)?
        )
    } else {
        let snapshots = snapshots_row(&snapshots(common)?.list()?);
        let rows = [images_row(&usage), containers_row(&found), snapshots];
        LISTING.lay_out(args.format.as_deref(), &rows)?
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Reclaimable is what no running container needs: of several images that share something, it
/// counts when none of them is used, so it is what a `prune --all` would free.
fn images_row(usage: &Usage) -> Value {
    let active = usage.images.iter().filter(|usage| usage.in_use);
    let counts = (usage.images.len(), active.count());
    row("Images", counts, (usage.total, usage.reclaimable))
}

/// What those have written that do not run is reclaimable.
fn containers_row<C>(found: &[Found<C>]) -> Value {
    let (active, ended): (Vec<&Found<C>>, Vec<&Found<C>>) =
        found.iter().partition(|one| is_up(one));
    let written = |some: &[&Found<C>]| -> u64 { some.iter().map(|one| one.written_bytes()).sum() };
    let reclaimable = written(&ended);
    let bytes = (written(&active) + reclaimable, reclaimable);
    row("Containers", (found.len(), active.len()), bytes)
}

/// None of them is ever removed but by hand.
fn snapshots_row(all: &[Snapshot]) -> Value {
    row("Snapshots", (all.len(), 0), (bytes_of_all(all), 0))
}

fn row(kind: &str, (all, active): (usize, usize), (bytes, reclaimable): (u64, u64)) -> Value {
    let percent = (reclaimable * 100).checked_div(bytes).unwrap_or(0);
    json!({
        "Type": kind,
        "TotalCount": all.to_string(),
        "Active": active.to_string(),
        "Size": words::size(bytes),
        "Reclaimable": format!("{} ({percent}%)", words::size(reclaimable)),
    })
}

fn container_row<C>(found: &Found<C>) -> Value {
    json!({
        "ID": found.short_id(),
        "Image": found.record.image,
        "Command": command(found, Length::Short),
        "LocalVolumes": "0",
        "Size": words::size(found.written_bytes()),
        "RunningFor": words::ago(found.record.created.age()),
        "Status": status(found),
        "Names": found.record.name,
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
