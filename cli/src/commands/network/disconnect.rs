//! `hyperrun network disconnect`: a container off a network.

use std::process::ExitCode;

use super::networks;
use crate::arguments::Common;
use crate::commands::containers;
use crate::failure::Failure;

/// Disconnect a container from a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun network disconnect back postgres")]
pub(crate) struct DisconnectArgs {
    /// Accepted and without effect
    #[arg(short, long)]
    force: bool,
    /// Name or id of a network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Disconnects it.
pub(crate) fn run(args: &DisconnectArgs, common: &Common) -> Result<ExitCode, Failure> {
    let DisconnectArgs { force: _, network, container } = args;
    networks(common)?.disconnect_container(&containers(common)?, container, network)?;
    Ok(ExitCode::SUCCESS)
}
