//! `hyperrun images`: what the store has.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use images::{Image, Reference};

use crate::arguments::Common;
use crate::commands::{open_store, print};
use crate::failure::Failure;
use crate::{table, words};

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun images -q")]
pub(crate) struct ImagesArgs {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Prints a line for each name of each image.
pub(crate) fn run(args: &ImagesArgs, common: &Common) -> Result<ExitCode, Failure> {
    let images = open_store(common)?.list()?;
    let text = if args.quiet { ids(&images) } else { lines(&images) };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn ids(images: &[Image]) -> String {
    images.iter().map(|image| format!("{}\n", image.id.short())).collect()
}

fn lines(images: &[Image]) -> String {
    let mut rows = vec![["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].map(str::to_owned)];
    for image in images {
        let unnamed = image.references.is_empty().then_some(None);
        for reference in image.references.iter().map(Some).chain(unnamed) {
            rows.push(row(image, reference));
        }
    }
    table::columns(&rows)
}

fn row(image: &Image, reference: Option<&Reference>) -> [String; 5] {
    let none = || "<none>".to_owned();
    [
        reference.map_or_else(none, Reference::familiar_name),
        reference.and_then(Reference::tag).map_or_else(none, str::to_owned),
        image.id.short(),
        created(image),
        words::size(image.size),
    ]
}

fn created(image: &Image) -> String {
    image.created.map_or_else(
        || "N/A".to_owned(),
        |moment| {
            let age = SystemTime::now().duration_since(moment).unwrap_or(Duration::ZERO);
            words::ago(age)
        },
    )
}
