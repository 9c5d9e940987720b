//! `hyperrun template`: machines that were saved when they had booted, from which runs go on.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use std::process::ExitCode;

use clap::Subcommand;
use runtime::places::Places;
use runtime::templates::Templates;

use crate::arguments::Common;
use crate::failure::Failure;

/// Manage the saved machines that runs go on from
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true, after_help = "Example:\n  hyperrun template build -m 1g")]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum TemplateCommand {
    Build(build::BuildArgs),
    Check(check::CheckArgs),
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    Prune(prune::PruneArgs),
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
}

/// Does what it says.
pub(crate) fn run(args: &TemplateArgs, common: &Common) -> Result<ExitCode, Failure> {
    match &args.command {
        TemplateCommand::Build(args) => build::run(args, common),
        TemplateCommand::Check(args) => check::run(args, common),
        TemplateCommand::Ls(args) => ls::run(args, common),
        TemplateCommand::Prune(args) => prune::run(args, common),
        TemplateCommand::Rm(args) => rm::run(args, common),
    }
}

/// Those of this home.
pub(crate) fn templates(common: &Common) -> Result<Templates, Failure> {
    Ok(Templates::new(Places::find(common.root.as_deref())?.templates()))
}
