//! `hyperrun pause`: halt all processes of containers.

use std::process::ExitCode;

use crate::arguments::Common;
use crate::commands::{containers, each};
use crate::failure::Failure;

/// Halt all processes of containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun pause web")]
pub(crate) struct PauseArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Halts one after the other.
pub(crate) fn run(args: &PauseArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    each(&args.containers, |words| Ok(runtime::pause(&all.find(words)?)?))
}
