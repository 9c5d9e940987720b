//! `hyperrun network create`: one more network.

use std::net::IpAddr;
use std::process::ExitCode;

use runtime::network::{NetworkSpec, Subnet, Subnet6};

use super::networks;
use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;

/// Make a network and print its id
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun network create web
  hyperrun network create --subnet 10.7.0.0/16 --ipv6 --internal back")]
pub(crate) struct CreateArgs {
    /// bridge is all that there is
    #[arg(short, long, default_value = "bridge", value_parser = ["bridge"])]
    driver: String,
    /// Use these addresses, as 10.7.0.0/16 or fd00:7::/64; one of each kind
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// Give the host this address of the network [default: the first]
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// Give containers addresses from this part of the subnet
    #[arg(long, value_name = "SUBNET")]
    ip_range: Option<String>,
    /// Use IPv6, too; without a --subnet of it, addresses that nobody else has
    #[arg(long)]
    ipv6: bool,
    /// Let nothing out of the network or into it
    #[arg(long)]
    internal: bool,
    /// Accepted and without effect: any container can be connected
    #[arg(long)]
    attachable: bool,
    /// Set metadata
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set an option, as com.docker.network.driver.mtu=1400
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// What it is called
    #[arg(value_name = "NETWORK")]
    name: String,
}

/// Makes it.
pub(crate) fn run(args: CreateArgs, common: &Common) -> Result<ExitCode, Failure> {
    let network = networks(common)?.create(spec(args)?)?;
    print(&(network.id + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn spec(args: CreateArgs) -> Result<NetworkSpec, Failure> {
    let CreateArgs { driver: _, attachable: _, name, ipv6, internal, .. } = args;
    let mut spec = NetworkSpec { name, ipv6, internal, ..NetworkSpec::default() };
    for text in &args.subnet {
        let twice = match text.contains(':') {
            true => spec.subnet6.replace(subnet6(text)?).is_some(),
            false => spec.subnet.replace(subnet(text)?).is_some(),
        };
        if twice {
            let hint = "give --subnet once for IPv4 and once for IPv6";
            return Err(Failure::new("a network has one subnet of each kind", hint));
        }
    }
    for address in args.gateway {
        match address {
            IpAddr::V4(address) => spec.gateway = Some(address),
            IpAddr::V6(address) => spec.gateway6 = Some(address),
        }
    }
    spec.ip_range = args.ip_range.as_deref().map(subnet).transpose()?;
    spec.labels = args.label.iter().map(|text| pair(text)).collect();
    spec.options = args.opt.iter().map(|text| pair(text)).collect();
    Ok(spec)
}

fn subnet(text: &str) -> Result<Subnet, Failure> {
    text.parse().map_err(wrong)
}

fn subnet6(text: &str) -> Result<Subnet6, Failure> {
    text.parse().map_err(wrong)
}

fn wrong(error: runtime::network::PrefixError) -> Failure {
    Failure::new(&error.to_string(), "it is an address and a number of bits, as in 10.7.0.0/16")
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}
