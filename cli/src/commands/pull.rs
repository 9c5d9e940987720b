//! `hyperrun pull`: an image out of a registry.

use std::process::ExitCode;

use images::{Platform, Pull, Tags, Talk, Transfer};
use runtime::places::Places;

use crate::arguments::Common;
use crate::commands::hand_over;
use crate::commands::load::LimitArgs;
use crate::failure::Failure;

/// Pull an image from a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun pull debian:bookworm
  hyperrun pull -a localhost:5000/web")]
pub(crate) struct PullArgs {
    /// Pull every image that the repository has a tag for
    #[arg(short, long)]
    all_tags: bool,
    /// Print the image's whole name only
    #[arg(short, long)]
    quiet: bool,
    /// Of an image for several platforms, take the one for this
    #[arg(long, value_name = "OS/ARCHITECTURE", default_value_t = Platform::host())]
    platform: Platform,
    #[command(flatten)]
    limits: LimitArgs,
    /// Its name, with a tag or a digest, or neither
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Hands over to the client of registries.
pub(crate) fn run(args: PullArgs, common: &Common) -> Result<ExitCode, Failure> {
    Err(hand_over(Transfer::Pull(Pull {
        store: Places::find(common.root.as_deref())?.images(),
        name: args.image,
        tags: if args.all_tags { Tags::All } else { Tags::One },
        platform: args.platform,
        limits: args.limits.limits(),
        talk: if args.quiet { Talk::Quiet } else { Talk::Normal },
    })))
}
