//! `hyperrun attach`: the streams of a container that runs.

use std::process::ExitCode;

use clap::ArgAction;
use runtime::{Attendance, DetachKeys, Presence, Status, attach_by_name, terminal_size};

use crate::arguments::Common;
use crate::commands::{containers, places};
use crate::failure::Failure;

/// How somebody is with a container.
#[derive(Debug, clap::Args)]
pub(crate) struct AttendingArgs {
    /// The keys that leave the container alone, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<DetachKeys>,
    /// Pass signals on to the program
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = ArgAction::Set
    )]
    pub(crate) sig_proxy: bool,
}

impl AttendingArgs {
    /// Somebody who is there, and perhaps types.
    pub(crate) fn here(&self, input: bool) -> Attendance {
        Attendance::Here(Presence {
            input,
            proxy_signals: self.sig_proxy,
            detach_keys: self.detach_keys.clone().unwrap_or_default(),
        })
    }
}

/// Attach this terminal's streams to a container that runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun attach --sig-proxy=false web")]
pub(crate) struct AttachArgs {
    /// Do not connect standard input
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    attending: AttendingArgs,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Stays until the container ends, and becomes its exit code.
pub(crate) fn run(args: &AttachArgs, common: &Common) -> Result<ExitCode, Failure> {
    let found = containers(common)?.find(&args.container)?;
    let refused = |state: &str, hint: &str| {
        Err(Failure::new(&format!("cannot attach to a {state} container"), hint))
    };
    match found.state.status {
        Status::Running | Status::Starting => {}
        Status::Paused => return refused("paused", "`hyperrun unpause` lets it go on"),
        Status::Restarting => return refused("restarting", "wait until it is running"),
        _ => return refused("stopped", "`hyperrun start -a` starts it"),
    }
    let process = &found.record.container.process;
    let input = !args.no_stdin && process.stdin;
    if input && process.terminal.is_some() && terminal_size().is_none() {
        return Err(Failure::of_run(runtime::Error::NotATerminal));
    }
    let attendance = args.attending.here(input);
    let outcome = attach_by_name(&found.record.id, &places(common)?, &attendance)?;
    Ok(ExitCode::from(outcome.code))
}
