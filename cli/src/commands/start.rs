//! `hyperrun start`: containers that were created, or have ended.

use std::process::ExitCode;

use runtime::{Attendance, terminal_size};

use crate::arguments::Common;
use crate::commands::attach::AttendingArgs;
use crate::commands::{containers, each, places};
use crate::failure::Failure;

/// Start containers that do not run
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun start -ai shell")]
pub(crate) struct StartArgs {
    /// Attach to its output, and become its exit code
    #[arg(short, long)]
    attach: bool,
    /// Attach to its input too
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    attending: AttendingArgs,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Starts one and stays with it, or each of several.
pub(crate) fn run(args: &StartArgs, common: &Common) -> Result<ExitCode, Failure> {
    let places = places(common)?;
    if !args.attach && !args.interactive {
        return each(&args.containers, |words| {
            runtime::start(words, &places, &Attendance::Away, common.debug)?;
            Ok(())
        });
    }
    let [words] = &args.containers[..] else {
        let hint = "leave out -a and -i to start several";
        return Err(Failure::new("you cannot start and attach multiple containers at once", hint));
    };
    let found = containers(common)?.find(words)?;
    let process = &found.record.container.process;
    let input = args.interactive && process.stdin;
    if input && process.terminal.is_some() && terminal_size().is_none() {
        return Err(Failure::of_run(runtime::Error::NotATerminal));
    }
    let attendance = args.attending.here(input);
    let outcome = runtime::start(words, &places, &attendance, common.debug);
    Ok(ExitCode::from(outcome.map_err(Failure::of_run)?.code))
}
