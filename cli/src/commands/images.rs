//! `hyperrun images`: what the store has.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use images::{Digest, Image, Reference, format_rfc3339};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::{open_store, print};
use crate::failure::Failure;
use crate::filter::{Filter, Wanted};
use crate::listing::Listing;
use crate::words;

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun images -q --filter dangling=true
  hyperrun images --format 'table {{.Repository}}\\t{{.Size}}' 'deb*'")]
pub(crate) struct ImagesArgs {
    /// Show all images; there are no hidden ones, so this changes nothing
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show digests of manifests
    #[arg(long)]
    digests: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show only some: dangling=true, reference=PATTERN, before=IMAGE, since=IMAGE, until=TIME,
    /// label=KEY[=VALUE]
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Print a table, JSON, or what a template makes of each: table, 'table TEMPLATE', json, TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show only names that fit this pattern
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const FILTERS: [&str; 6] = ["dangling", "reference", "before", "since", "until", "label"];

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// Prints a line for each name of each image.
pub(crate) fn run(args: &ImagesArgs, common: &Common) -> Result<ExitCode, Failure> {
    let store = open_store(common)?;
    let mut wanted = Wanted::read(&args.filter, &FILTERS, &store)?;
    if let Some(name) = &args.name {
        wanted.named(name);
    }
    let mut images = store.list()?;
    images.retain(|image| wanted.image(image));
    if args.quiet && args.format.is_none() {
        return print_ids(args, &wanted, &images);
    }
    let rows: Vec<Value> = images
        .iter()
        .flat_map(|image| names(image).map(move |name| (image, name)))
        .filter(|(_, name)| wanted.name(*name))
        .map(|(image, name)| row(args, image, name))
        .collect();
    let table = if args.digests { WITH_DIGESTS } else { TABLE };
    print(&Listing { table, headers: HEADERS }.lay_out(args.format.as_deref(), &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn print_ids(args: &ImagesArgs, wanted: &Wanted, images: &[Image]) -> Result<ExitCode, Failure> {
    let meant = images.iter().filter(|image| names(image).any(|name| wanted.name(name)));
    print(&meant.map(|image| args.id(image.id) + "\n").collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

/// An image's names, or the lack of one.
fn names(image: &Image) -> impl Iterator<Item = Option<&Reference>> {
    let unnamed = image.references.is_empty().then_some(None);
    image.references.iter().map(Some).chain(unnamed)
}

impl ImagesArgs {
    fn id(&self, id: Digest) -> String {
        if self.no_trunc { id.to_string() } else { id.short() }
    }
}

fn row(args: &ImagesArgs, image: &Image, name: Option<&Reference>) -> Value {
    let none = || "<none>".to_owned();
    let size = words::size(image.size);
    json!({
        "ID": args.id(image.id),
        "Repository": name.map_or_else(none, Reference::familiar_name),
        "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "Digest": image.manifest.map_or_else(none, |digest| digest.to_string()),
        "CreatedSince": since(image.created),
        "CreatedAt": words::go_time(&at(image.created)),
        "Size": size,
        "VirtualSize": size,
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    })
}

/// How long ago something was made.
pub(crate) fn since(moment: Option<SystemTime>) -> String {
    moment.map_or_else(
        || "N/A".to_owned(),
        |moment| words::ago(SystemTime::now().duration_since(moment).unwrap_or(Duration::ZERO)),
    )
}

/// When something was made.
pub(crate) fn at(moment: Option<SystemTime>) -> String {
    moment.map_or_else(|| "N/A".to_owned(), format_rfc3339)
}
