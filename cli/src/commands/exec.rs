//! `hyperrun exec`: one more program in a container that runs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use runtime::spec::{EnvChange, Stdio};
use runtime::{Attendance, DetachKeys, Exec, Presence, UNSEEN_SIZE};

use crate::arguments::Common;
use crate::commands::containers;
use crate::commands::options::variables;
use crate::commands::run::{env_parser, takes_input, terminal};
use crate::failure::Failure;

/// Run a program in a container that runs
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hyperrun exec [OPTIONS] CONTAINER COMMAND [ARGUMENT]...",
    after_help = "Example:\n  hyperrun exec -it web sh"
)]
pub(crate) struct ExecArgs {
    /// Connect standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give the program this terminal
    #[arg(short, long)]
    tty: bool,
    /// Leave it alone once it runs; what it writes is lost
    #[arg(short, long)]
    detach: bool,
    /// The keys that leave it alone, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Set a variable, or pass on this environment's
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = env_parser())]
    env: Vec<EnvChange>,
    /// Take variables from a file, a line for each
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Begin in this folder of the container
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Run as this user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Let root do everything in its machine
    #[arg(long)]
    privileged: bool,
    /// The container, then the program and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"], hide = true)]
    container_and_command: Vec<OsString>,
}

/// Runs it and becomes its exit code.
pub(crate) fn run(args: ExecArgs, common: &Common) -> Result<ExitCode, Failure> {
    let attendance = args.attendance();
    let stdio = args.stdio().map_err(Failure::of_run)?;
    let mut words = args.container_and_command.into_iter();
    let container = words.next().expect("clap requires a container");
    let found = containers(common)?.find(&container.to_string_lossy())?;
    let exec = Exec {
        command: words.map(OsStringExt::into_vec).collect(),
        env: [variables(&args.env_file)?, args.env].concat(),
        working_dir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        stdio,
    };
    let outcome = runtime::exec(&found, &exec, &attendance).map_err(Failure::of_exec)?;
    Ok(ExitCode::from(outcome.code))
}

impl ExecArgs {
    fn attendance(&self) -> Attendance {
        if self.detach {
            return Attendance::Away;
        }
        Attendance::Here(Presence {
            input: takes_input(self.interactive, self.tty),
            proxy_signals: false,
            detach_keys: self.detach_keys.clone().unwrap_or_default(),
        })
    }

    fn stdio(&self) -> Result<Stdio, runtime::Error> {
        match (self.tty, self.interactive) {
            (true, _) if self.detach => Ok(Stdio::Terminal(UNSEEN_SIZE)),
            (true, interactive) => terminal(interactive),
            (false, true) if !self.detach => Ok(Stdio::Pipes),
            (false, _) => Ok(Stdio::OutputOnly),
        }
    }
}
