//! `hyperrun unpause`: let halted containers go on.

use std::process::ExitCode;

use crate::arguments::Common;
use crate::commands::{containers, each};
use crate::failure::Failure;

/// Let halted containers go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun unpause web")]
pub(crate) struct UnpauseArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Lets go on one after the other.
pub(crate) fn run(args: &UnpauseArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    each(&args.containers, |words| Ok(runtime::unpause(&all.find(words)?)?))
}
