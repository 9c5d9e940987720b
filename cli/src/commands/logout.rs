//! `hyperrun logout`: takes back what `login` said.

use std::process::ExitCode;

use images::Transfer;

use crate::commands::hand_over;
use crate::commands::login::Server;
use crate::failure::Failure;

/// Log out from a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun logout localhost:5000")]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "SERVER", default_value = "docker.io")]
    server: Server,
}

/// Hands over to the client of registries.
pub(crate) fn run(args: LogoutArgs) -> Result<ExitCode, Failure> {
    Err(hand_over(Transfer::Logout { registry: args.server.0 }))
}
