//! `hyperrun network inspect`: everything that is known about networks, as JSON of Docker's shape.

use std::collections::BTreeMap;
use std::process::ExitCode;

use runtime::network::{DEFAULT_NETWORK, Lease, Network, Networks, USER_NETWORK, user};
use runtime::{Containers, Found};
use serde_json::{Value, json};

use super::{BUILTIN, NO_ID, networks};
use crate::arguments::Common;
use crate::commands::containers;
use crate::commands::ps::is_up;
use crate::failure::Failure;
use crate::listing;

/// Show everything about networks
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun network inspect web
  hyperrun network inspect -f '{{(index .IPAM.Config 0).Subnet}}' web")]
pub(crate) struct InspectArgs {
    /// Print what a template makes of each, or `json` for JSON in one line
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Accepted and without effect
    #[arg(short, long)]
    verbose: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

/// Prints what there is; a name that means nothing does not keep the rest from being shown.
pub(crate) fn run(args: &InspectArgs, common: &Common) -> Result<ExitCode, Failure> {
    let InspectArgs { verbose: _, format, names } = args;
    let (networks, containers) = (networks(common)?, containers(common)?);
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        let shown = match BUILTIN.iter().find(|(builtin, _)| builtin == name) {
            Some((name, driver)) => builtin(&containers, name, driver),
            None => {
                find(&networks, name).and_then(|network| inspect(&networks, &containers, &network))
            }
        };
        match shown {
            Ok(value) => found.push(value),
            Err(error) => failures.push(error),
        }
    }
    listing::show(format.as_deref(), &found)?;
    let mut code = ExitCode::SUCCESS;
    for error in failures {
        code = Failure::from(error).report();
    }
    Ok(code)
}

fn find(networks: &Networks, name: &str) -> Result<Network, runtime::Error> {
    if name == DEFAULT_NETWORK {
        // It need not be there yet.
        networks.list_all()?;
    }
    networks.find(name)
}

fn inspect(
    networks: &Networks,
    containers: &Containers,
    network: &Network,
) -> Result<Value, runtime::Error> {
    let running: Vec<_> = containers.list()?.into_iter().filter(is_up).collect();
    let is_there =
        |lease: &Lease| running.iter().any(|found: &Found| found.record.id == lease.container);
    let leases = networks.leases(network)?.into_iter().filter(is_there);
    let members: BTreeMap<_, _> =
        leases.map(|lease| (lease.container.clone(), member(network, &lease))).collect();
    let mut config = vec![json!({
        "Subnet": network.subnet,
        "Gateway": network.gateway,
    })];
    if let Some(range) = network.ip_range {
        config[0]["IPRange"] = json!(range);
    }
    if let Some(subnet) = network.subnet6 {
        config.push(json!({ "Subnet": subnet, "Gateway": network.gateway6 }));
    }
    let mut options = network.options.clone();
    let bridge = "com.docker.network.bridge.name".to_owned();
    options.entry(bridge).or_insert_with(|| network.interface.clone());
    let mtu = "com.docker.network.driver.mtu".to_owned();
    options.entry(mtu).or_insert_with(|| network.mtu.to_string());
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created.to_text(),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": network.subnet6.is_some(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": config },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": members,
        "Options": options,
        "Labels": network.labels,
    }))
}

/// What is there for all beside networks, with the containers that run and have nothing else. There they have
/// no addresses of their own.
fn builtin(containers: &Containers, name: &str, driver: &str) -> Result<Value, runtime::Error> {
    let leads_out = name == USER_NETWORK;
    let mut running = containers.list()?;
    running.retain(|found| {
        let record = &found.record;
        is_up(found) && record.networks.is_empty() && record.goes_by_passt() == leads_out
    });
    let member = |found: Found| {
        let member = json!({
            "Name": found.record.name,
            "EndpointID": "",
            "MacAddress": "",
            "IPv4Address": "",
            "IPv6Address": "",
        });
        (found.record.id, member)
    };
    Ok(json!({
        "Name": name,
        "Id": NO_ID,
        "Created": "",
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": leads_out,
        "EnableIPv6": leads_out && user::speaks_six(),
        "IPAM": { "Driver": "default", "Options": null, "Config": [] },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": running.into_iter().map(member).collect::<BTreeMap<_, _>>(),
        "Options": {},
        "Labels": {},
    }))
}

fn member(network: &Network, lease: &Lease) -> Value {
    let six = lease.address6.zip(network.subnet6);
    json!({
        "Name": lease.name,
        "EndpointID": network.endpoint_id(&lease.container),
        "MacAddress": lease.mac,
        "IPv4Address": format!("{}/{}", lease.address, network.subnet.bits()),
        "IPv6Address": six.map_or_else(String::new, |(address, subnet)| {
            format!("{address}/{}", subnet.bits())
        }),
    })
}
