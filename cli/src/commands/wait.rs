//! `hyperrun wait`: waits for ends, and tells exit codes.

use std::process::ExitCode;

use crate::arguments::Common;
use crate::commands::{containers, print};
use crate::failure::Failure;

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun wait job")]
pub(crate) struct WaitArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Waits for one after the other.
pub(crate) fn run(args: &WaitArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    let mut code = ExitCode::SUCCESS;
    for words in &args.containers {
        match all.find(words).and_then(|found| runtime::wait(&all, &found)) {
            Ok(exit_code) => print(&format!("{exit_code}\n"))?,
            Err(error) => code = Failure::from(error).report(),
        }
    }
    Ok(code)
}
