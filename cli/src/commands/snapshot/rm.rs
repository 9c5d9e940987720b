//! `hyperrun snapshot rm`: takes snapshots away.

use std::process::ExitCode;

use super::snapshots;
use crate::arguments::Common;
use crate::commands::{each, places};
use crate::failure::Failure;

/// Remove snapshots; containers that came from them go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun snapshot rm warm")]
pub(crate) struct RmArgs {
    /// Names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Removes one after the other.
pub(crate) fn run(args: &RmArgs, common: &Common) -> Result<ExitCode, Failure> {
    let (snapshots, places) = (snapshots(common)?, places(common)?);
    each(&args.names, |name| Ok(snapshots.remove(name, &places)?))
}
