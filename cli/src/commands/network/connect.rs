//! `hyperrun network connect`: a container on one more network.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use runtime::options::NetworkOption;

use super::networks;
use crate::arguments::Common;
use crate::commands::containers;
use crate::failure::Failure;

/// Connect a container to a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun network connect --alias db back postgres")]
pub(crate) struct ConnectArgs {
    /// Call the container so, too, on this network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Give it this address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Give it this IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Name or id of a network
    #[arg(value_name = "NETWORK")]
    network: NetworkOption,
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Connects it.
pub(crate) fn run(args: ConnectArgs, common: &Common) -> Result<ExitCode, Failure> {
    let option = NetworkOption {
        name: args.network.name,
        aliases: args.alias,
        address: args.ip,
        address6: args.ip6,
        mac: None,
    };
    networks(common)?.connect_container(&containers(common)?, &args.container, &option)?;
    Ok(ExitCode::SUCCESS)
}
