//! `hyperrun image`: the commands about images under one name.

pub(crate) mod export;
pub(crate) mod prune;

use std::process::ExitCode;

use clap::Subcommand;

use crate::arguments::Common;
use crate::commands::{history, images, import, inspect, load, rmi, save, tag};
use crate::failure::Failure;

/// Manage images
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  hyperrun image prune --filter until=24h"
)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::ImagesArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rmi::RmiArgs),
    Inspect(inspect::InspectArgs),
    History(history::HistoryArgs),
    Tag(tag::TagArgs),
    Load(load::LoadArgs),
    Save(save::SaveArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Prune(prune::PruneArgs),
}

/// Does what the command of its own would do.
pub(crate) fn run(args: &ImageArgs, common: &Common) -> Result<ExitCode, Failure> {
    match &args.command {
        ImageCommand::Ls(args) => images::run(args, common),
        ImageCommand::Rm(args) => rmi::run(args, common),
        ImageCommand::Inspect(args) => inspect::run_for_images(args, common),
        ImageCommand::History(args) => history::run(args, common),
        ImageCommand::Tag(args) => tag::run(args, common),
        ImageCommand::Load(args) => load::run(args, common),
        ImageCommand::Save(args) => save::run(args, common),
        ImageCommand::Import(args) => import::run(args, common),
        ImageCommand::Export(args) => export::run(args, common),
        ImageCommand::Prune(args) => prune::run(args, common),
    }
}
