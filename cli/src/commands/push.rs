//! `hyperrun push`: an image into a registry.

use std::process::ExitCode;

use images::{Push, Reference, Talk, Transfer};
use runtime::places::Places;

use crate::arguments::Common;
use crate::commands::hand_over;
use crate::failure::Failure;

/// Push an image to the registry in its name
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun push localhost:5000/web:1")]
pub(crate) struct PushArgs {
    /// Print the image's whole name only
    #[arg(short, long)]
    quiet: bool,
    /// Its name, with a tag
    #[arg(value_name = "IMAGE")]
    image: Reference,
}

/// Hands over to the client of registries.
pub(crate) fn run(args: PushArgs, common: &Common) -> Result<ExitCode, Failure> {
    Err(hand_over(Transfer::Push(Push {
        store: Places::find(common.root.as_deref())?.images(),
        reference: args.image,
        talk: if args.quiet { Talk::Quiet } else { Talk::Normal },
    })))
}
