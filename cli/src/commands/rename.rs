//! `hyperrun rename`: gives a container another name.

use std::process::ExitCode;

use runtime::spec::ContainerName;

use crate::arguments::Common;
use crate::commands::containers;
use crate::failure::Failure;

/// Rename a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun rename web site")]
pub(crate) struct RenameArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What it is called from now on
    #[arg(value_name = "NEW-NAME")]
    name: ContainerName,
}

/// Renames it; its host name stays.
pub(crate) fn run(args: &RenameArgs, common: &Common) -> Result<ExitCode, Failure> {
    runtime::rename(&containers(common)?, &args.container, &args.name)?;
    Ok(ExitCode::SUCCESS)
}
