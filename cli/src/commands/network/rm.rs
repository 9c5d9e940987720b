//! `hyperrun network rm`: takes networks away.

use std::process::ExitCode;

use super::networks;
use crate::arguments::Common;
use crate::commands::each;
use crate::failure::Failure;

/// Remove networks that no container is connected to
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun network rm web")]
pub(crate) struct RmArgs {
    /// Say nothing of networks that are not there
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

/// Removes one after the other; a failure does not keep the rest from being removed.
pub(crate) fn run(args: &RmArgs, common: &Common) -> Result<ExitCode, Failure> {
    let networks = networks(common)?;
    each(&args.names, |name| match networks.remove(name) {
        Err(error) if args.force && error.is_unknown_network() => Ok(()),
        removed => Ok(removed.map(drop)?),
    })
}
