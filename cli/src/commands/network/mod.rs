//! `hyperrun network`: what containers reach each other and the outside through.

pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod disconnect;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use std::process::ExitCode;

use clap::Subcommand;
use runtime::network::{NO_NETWORK, Networks, USER_NETWORK};
use runtime::places::Places;

use crate::arguments::Common;
use crate::failure::Failure;

/// What is there for all beside networks, with its driver.
const BUILTIN: [(&str, &str); 2] = [(NO_NETWORK, "null"), (USER_NETWORK, "passt")];
/// Their id.
const NO_ID: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Manage the networks of containers
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true, after_help = "Example:\n  hyperrun network create web")]
pub(crate) struct NetworkArgs {
    #[command(subcommand)]
    command: NetworkCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum NetworkCommand {
    Connect(connect::ConnectArgs),
    Create(Box<create::CreateArgs>),
    Disconnect(disconnect::DisconnectArgs),
    Inspect(inspect::InspectArgs),
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    Prune(prune::PruneArgs),
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
}

/// Does what it says.
pub(crate) fn run(args: NetworkArgs, common: &Common) -> Result<ExitCode, Failure> {
    match args.command {
        NetworkCommand::Connect(args) => connect::run(args, common),
        NetworkCommand::Create(args) => create::run(*args, common),
        NetworkCommand::Disconnect(args) => disconnect::run(&args, common),
        NetworkCommand::Inspect(args) => inspect::run(&args, common),
        NetworkCommand::Ls(args) => ls::run(&args, common),
        NetworkCommand::Prune(args) => prune::run(&args, common),
        NetworkCommand::Rm(args) => rm::run(&args, common),
    }
}

/// Those of this home.
pub(crate) fn networks(common: &Common) -> Result<Networks, Failure> {
    Ok(Networks::open(&Places::find(common.root.as_deref())?))
}
