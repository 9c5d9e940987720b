//! `hyperrun restart`: stops containers and starts them again.

use std::process::ExitCode;

use crate::arguments::Common;
use crate::commands::stop::StopFlags;
use crate::commands::{containers, each, places};
use crate::failure::Failure;

/// Stop containers and start them again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun restart web")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    how: StopFlags,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Restarts one after the other. One that is removed when it ends would not be there to be started.
pub(crate) fn run(args: &RestartArgs, common: &Common) -> Result<ExitCode, Failure> {
    let (all, places) = (containers(common)?, places(common)?);
    let stop = args.how.stop();
    each(&args.containers, |words| {
        let found = all.find(words)?;
        if found.record.keeping.auto_remove && found.state.status.is_supervised() {
            let error = format!("container {} is removed when it ends", found.record.name);
            return Err(Failure::new(&error, "run it anew, without --rm to restart it"));
        }
        Ok(runtime::restart(&found, &places, stop, common.debug)?)
    })
}
