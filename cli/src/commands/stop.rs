//! `hyperrun stop`: asks programs to end.

use std::process::ExitCode;

use runtime::Stop;
use runtime::signal::SignalNumber;

use crate::arguments::Common;
use crate::commands::{containers, each};
use crate::failure::Failure;

/// Stop running containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun stop -t 30 web")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    how: StopFlags,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How a program is stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct StopFlags {
    /// The signal to send first
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<SignalNumber>,
    /// The seconds to wait before it is killed; less than 0 waits for ever
    #[arg(
        short = 't',
        long,
        alias = "time",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    timeout: Option<i64>,
}

impl StopFlags {
    pub(crate) fn stop(&self) -> Stop {
        Stop { signal: self.signal, timeout: self.timeout }
    }
}

/// Stops one after the other.
pub(crate) fn run(args: &StopArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    let stop = args.how.stop();
    each(&args.containers, |words| Ok(runtime::stop(&all, &all.find(words)?, stop)?))
}
