//! `hyperrun system`: everything that is kept as a whole.

pub(crate) mod check;
pub(crate) mod df;
pub(crate) mod prune;

use std::process::ExitCode;

use clap::Subcommand;

use crate::arguments::Common;
use crate::commands::info;
use crate::failure::Failure;

/// Show, check and clear up what is kept on this machine
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true, after_help = "Example:\n  hyperrun system df -v")]
pub(crate) struct SystemArgs {
    #[command(subcommand)]
    command: SystemCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum SystemCommand {
    Df(df::DfArgs),
    Check(check::CheckArgs),
    Info(info::InfoArgs),
    Prune(prune::PruneArgs),
}

/// Does what it says.
pub(crate) fn run(args: &SystemArgs, common: &Common) -> Result<ExitCode, Failure> {
    match &args.command {
        SystemCommand::Df(args) => df::run(args, common),
        SystemCommand::Check(args) => check::run(args, common),
        SystemCommand::Info(args) => info::run(args, common),
        SystemCommand::Prune(args) => prune::run(args, common),
    }
}
