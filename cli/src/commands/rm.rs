//! `hyperrun rm`: removes containers.

use std::process::ExitCode;

use runtime::Removal;

use crate::arguments::Common;
use crate::commands::{containers, each};
use crate::failure::Failure;

/// Remove containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun rm -f web")]
pub(crate) struct RmArgs {
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes too; these lie on the container's own disk and always go
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Removes one after the other.
pub(crate) fn run(args: &RmArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    let removal = if args.force { Removal::Forced } else { Removal::OnlyEnded };
    let mut names = args.containers.clone();
    if args.force {
        // As with Docker: that there is nothing to remove is said, and no failure.
        names.retain(|words| match all.find(words) {
            Err(error @ runtime::Error::UnknownContainer { .. }) => {
                Failure::from(error).report();
                false
            }
            _ => true,
        });
    }
    each(&names, |words| Ok(runtime::remove(&all, &all.find(words)?, removal)?))
}
