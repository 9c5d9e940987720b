//! `hyperrun container`: the commands about containers under one name.

pub(crate) mod prune;

use std::process::ExitCode;

use clap::Subcommand;
use runtime::Stopwatch;

use crate::arguments::Common;
use crate::commands::{
    attach, clone, commit, cp, create, diff, exec, inspect, kill, logs, pause, port, ps, rename,
    restart, restore, rm, run as run_command, start, stats, stop, top, unpause, update, wait,
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

/// The commands about containers that are called by themselves or as those of `container`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum OfContainers {
    Run(Box<run_command::RunCommand>),
    Create(Box<create::CreateArgs>),
    Start(start::StartArgs),
    Attach(attach::AttachArgs),
    Exec(Box<exec::ExecArgs>),
    Logs(logs::LogsArgs),
    Stop(stop::StopArgs),
    Kill(kill::KillArgs),
    Restart(restart::RestartArgs),
    Pause(pause::PauseArgs),
    Unpause(unpause::UnpauseArgs),
    Top(top::TopArgs),
    Port(port::PortArgs),
    Stats(stats::StatsArgs),
    Wait(wait::WaitArgs),
    Rm(rm::RmArgs),
    Rename(rename::RenameArgs),
    Update(update::UpdateArgs),
    Cp(cp::CpArgs),
    Diff(diff::DiffArgs),
    Commit(commit::CommitArgs),
    Restore(Box<restore::RestoreArgs>),
    Clone(Box<clone::CloneArgs>),
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum ContainerCommand {
    #[command(flatten)]
    Same(OfContainers),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::PsArgs),
    Inspect(inspect::InspectArgs),
    Prune(prune::PruneArgs),
}

/// Does what a command of `container` says.
pub(crate) fn run(
    args: ContainerArgs,
    common: &Common,
    stopwatch: Stopwatch,
) -> Result<ExitCode, Failure> {
    match args.command {
        ContainerCommand::Same(command) => run_same(command, common, stopwatch),
        ContainerCommand::Ls(args) => ps::run(&args, common),
        ContainerCommand::Inspect(args) => inspect::run_for_containers(&args, common),
        ContainerCommand::Prune(args) => prune::run(&args, common),
    }
}

/// Does what a command about containers says, however it was called.
pub(crate) fn run_same(
    command: OfContainers,
    common: &Common,
    stopwatch: Stopwatch,
) -> Result<ExitCode, Failure> {
    match command {
        OfContainers::Run(args) => run_command::run(*args, common, stopwatch),
        OfContainers::Create(args) => create::run(*args, common),
        OfContainers::Exec(args) => exec::run(*args, common),
        OfContainers::Start(args) => start::run(&args, common),
        OfContainers::Attach(args) => attach::run(&args, common),
        OfContainers::Logs(args) => logs::run(&args, common),
        OfContainers::Stop(args) => stop::run(&args, common),
        OfContainers::Kill(args) => kill::run(&args, common),
        OfContainers::Restart(args) => restart::run(&args, common),
        OfContainers::Pause(args) => pause::run(&args, common),
        OfContainers::Unpause(args) => unpause::run(&args, common),
        OfContainers::Top(args) => top::run(&args, common),
        OfContainers::Port(args) => port::run(&args, common),
        OfContainers::Stats(args) => stats::run(&args, common),
        OfContainers::Wait(args) => wait::run(&args, common),
        OfContainers::Rm(args) => rm::run(&args, common),
        OfContainers::Rename(args) => rename::run(&args, common),
        OfContainers::Update(args) => update::run(&args, common),
        OfContainers::Cp(args) => cp::run(&args, common),
        OfContainers::Diff(args) => diff::run(&args, common),
        OfContainers::Commit(args) => commit::run(&args, common),
        OfContainers::Restore(args) => restore::run(*args, common, stopwatch),
        OfContainers::Clone(args) => clone::run(*args, common),
    }
}
