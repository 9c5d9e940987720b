//! `hyperrun create`: a container that is started later.

use std::process::ExitCode;

use crate::arguments::Common;
use crate::commands::print;
use crate::commands::run::{self, RunArgs, Stay};
use crate::failure::Failure;

/// Create a container, and start it later
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "hyperrun create [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]",
    after_help = "\
Example:
  hyperrun create --name hello debian:bookworm echo hello
  hyperrun start -a hello"
)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    container: RunArgs,
}

/// Prints the id of what was created.
pub(crate) fn run(args: CreateArgs, common: &Common) -> Result<ExitCode, Failure> {
    let created = run::create(args.container, Stay::Later, common)?;
    let id = created.id().to_owned();
    created.keep().map_err(Failure::of_run)?;
    print(&(id + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
