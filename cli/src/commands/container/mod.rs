//! `hyperrun container`: the commands about containers under one name.

pub(crate) mod prune;

use std::process::ExitCode;

use clap::Subcommand;
use runtime::Stopwatch;

use crate::arguments::Common;
use crate::commands::{
    attach, create, exec, inspect, kill, logs, pause, ps, rename, restart, rm, run as run_command,
    start, stats, stop, top, unpause, wait,
};
use crate::failure::Failure;

/// Manage containers
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  hyperrun container prune --filter until=24h"
)]
pub(crate) struct ContainerArgs {
    #[command(subcommand)]
    command: ContainerCommand,
}

#[derive(Debug, Subcommand)]
enum ContainerCommand {
    Run(Box<run_command::RunCommand>),
    Create(Box<create::CreateArgs>),
    Start(start::StartArgs),
    Attach(attach::AttachArgs),
    Exec(Box<exec::ExecArgs>),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::PsArgs),
    Inspect(inspect::InspectArgs),
    Logs(logs::LogsArgs),
    Stop(stop::StopArgs),
    Kill(kill::KillArgs),
    Restart(restart::RestartArgs),
    Pause(pause::PauseArgs),
    Unpause(unpause::UnpauseArgs),
    Top(top::TopArgs),
    Stats(stats::StatsArgs),
    Wait(wait::WaitArgs),
    Rm(rm::RmArgs),
    Rename(rename::RenameArgs),
    Prune(prune::PruneArgs),
}

/// Does what the command of its own would do.
pub(crate) fn run(
    args: ContainerArgs,
    common: &Common,
    stopwatch: Stopwatch,
) -> Result<ExitCode, Failure> {
    match args.command {
        ContainerCommand::Run(args) => run_command::run(*args, common, stopwatch),
        ContainerCommand::Create(args) => create::run(*args, common),
        ContainerCommand::Start(args) => start::run(&args, common),
        ContainerCommand::Attach(args) => attach::run(&args, common),
        ContainerCommand::Exec(args) => exec::run(*args, common),
        ContainerCommand::Ls(args) => ps::run(&args, common),
        ContainerCommand::Inspect(args) => inspect::run_for_containers(&args, common),
        ContainerCommand::Logs(args) => logs::run(&args, common),
        ContainerCommand::Stop(args) => stop::run(&args, common),
        ContainerCommand::Kill(args) => kill::run(&args, common),
        ContainerCommand::Restart(args) => restart::run(&args, common),
        ContainerCommand::Pause(args) => pause::run(&args, common),
        ContainerCommand::Unpause(args) => unpause::run(&args, common),
        ContainerCommand::Top(args) => top::run(&args, common),
        ContainerCommand::Stats(args) => stats::run(&args, common),
        ContainerCommand::Wait(args) => wait::run(&args, common),
        ContainerCommand::Rm(args) => rm::run(&args, common),
        ContainerCommand::Rename(args) => rename::run(&args, common),
        ContainerCommand::Prune(args) => prune::run(&args, common),
    }
}
