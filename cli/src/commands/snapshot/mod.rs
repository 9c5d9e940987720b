//! `hyperrun snapshot`: containers that ran, kept as files from which others go on.

pub(crate) mod create;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod rm;

use std::process::ExitCode;

use clap::Subcommand;
use runtime::snapshots::Snapshots;

use crate::arguments::Common;
use crate::commands::places;
use crate::failure::Failure;

/// Manage snapshots of containers, from which others go on
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  hyperrun snapshot create web warm"
)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum SnapshotCommand {
    Create(create::CreateArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Inspect(inspect::InspectArgs),
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
}

/// Does what it says.
pub(crate) fn run(args: &SnapshotArgs, common: &Common) -> Result<ExitCode, Failure> {
    match &args.command {
        SnapshotCommand::Create(args) => create::run(args, common),
        SnapshotCommand::Export(args) => export::run(args, common),
        SnapshotCommand::Import(args) => import::run(args, common),
        SnapshotCommand::Inspect(args) => inspect::run(args, common),
        SnapshotCommand::Ls(args) => ls::run(args, common),
        SnapshotCommand::Rm(args) => rm::run(args, common),
    }
}

/// Those of this home.
pub(crate) fn snapshots(common: &Common) -> Result<Snapshots, Failure> {
    Ok(Snapshots::of(&places(common)?))
}
