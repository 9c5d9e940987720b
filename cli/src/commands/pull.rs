//! `hyperrun pull`: an image out of a registry.

use std::process::ExitCode;

use images::{Platform, Pull, Talk, Transfer};
use runtime::places::Places;

use crate::arguments::Common;
use crate::commands::hand_over;
use crate::commands::load::LimitArgs;
use crate::failure::Failure;

/// Pull an image from a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun pull debian:bookworm")]
pub(crate) struct PullArgs {
    /// Print the image's whole name only
    #[arg(short, long)]
    quiet: bool,
    /// Of an image for several platforms, take the one for this
    #[arg(long, value_name = "OS/ARCHITECTURE", default_value_t = Platform::host())]
    platform: Platform,
    #[command(flatten)]
    limits: LimitArgs,
    /// Its name, with a tag or a digest
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Hands over to the client of registries.
pub(crate) fn run(args: PullArgs, common: &Common) -> Result<ExitCode, Failure> {
    Err(hand_over(Transfer::Pull(Pull {
        store: Places::find(common.root.as_deref())?.images(),
        name: args.image,
        platform: args.platform,
        limits: args.limits.limits(),
        talk: if args.quiet { Talk::Quiet } else { Talk::Normal },
    })))
}
