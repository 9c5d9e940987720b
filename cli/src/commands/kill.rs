//! `hyperrun kill`: sends signals to programs.

use std::process::ExitCode;

use runtime::signal::SignalNumber;

use crate::arguments::Common;
use crate::commands::{containers, each};
use crate::failure::Failure;

/// Kill running containers, or send them a signal
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun kill -s HUP web")]
pub(crate) struct KillArgs {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value_t = SignalNumber::KILL)]
    signal: SignalNumber,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Signals one after the other.
pub(crate) fn run(args: &KillArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    each(&args.containers, |words| Ok(runtime::kill(&all, &all.find(words)?, args.signal)?))
}
