//! `hyperrun tag`: a further name for an image.

use std::process::ExitCode;

use images::Reference;

use crate::arguments::Common;
use crate::commands::{note_images, open_store};
use crate::failure::Failure;

/// Give an image a further name
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  hyperrun tag debian:bookworm registry.example:5000/debian:mine"
)]
pub(crate) struct TagArgs {
    /// The image, by name or id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The name; the tag is `latest` if there is none
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

/// Says nothing if it went well.
pub(crate) fn run(args: &TagArgs, common: &Common) -> Result<ExitCode, Failure> {
    let target: Reference = args.target.parse().map_err(images::Error::from)?;
    let store = open_store(common)?;
    let name = target.familiar();
    store.tag(&args.source, target)?;
    note_images(common, "tag", [(store.find(&name)?.id.to_string(), name)])?;
    Ok(ExitCode::SUCCESS)
}
