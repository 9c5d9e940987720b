//! Where a container is on its networks, as `inspect` shows it.

use std::net::SocketAddr;

use runtime::network::{
    DEFAULT_NETWORK, Endpoint, Mac, NO_NETWORK, Network, Networks, USER_NETWORK, user,
};
use runtime::{Found, Record};
use serde_json::{Value, json};

use crate::commands::ps::is_up;
use crate::words;

/// Where it is on its networks; what of it is only while it runs is empty when it does not, as with Docker.
pub(super) fn network_settings(found: &Found, networks: &Networks) -> Value {
    let places = found.record.networks.iter();
    let mut shown: serde_json::Map<_, _> = places
        .map(|place| (place.network.clone(), place_on_network(found, place, networks)))
        .collect();
    if found.record.goes_by_passt() {
        shown.insert(USER_NETWORK.to_owned(), place_by_passt(is_up(found)));
    }
    // Docker shows the default network's on the outside, too.
    let usual = shown.get(DEFAULT_NETWORK).cloned();
    let outside = |field: &str| match &usual {
        Some(place) => place[field].clone(),
        None if field.ends_with("Len") => 0.into(),
        None => "".into(),
    };
    let mut settings = json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": ports(found),
        // Docker has no such choice: who carries its frames.
        "Carrier": found.state.carrier,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
    });
    for field in [
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ] {
        settings[field] = outside(field);
    }
    if shown.is_empty() {
        let none = json!({ "NetworkID": "", "EndpointID": "", "IPAddress": "" });
        settings["Networks"] = json!({ NO_NETWORK: none });
    } else {
        settings["Networks"] = shown.into();
    }
    settings
}

/// Those of the host that lead to each of its ports; none is `null`.
fn ports(found: &Found) -> Value {
    let host =
        |host: &SocketAddr| json!({ "HostIp": host.ip(), "HostPort": host.port().to_string() });
    let shown = found.ports().into_iter().map(|(port, hosts)| {
        let hosts = Some(hosts).filter(|hosts| !hosts.is_empty());
        let hosts = hosts.map(|hosts| hosts.iter().map(host).collect::<Vec<_>>());
        (port.to_string(), json!(hosts))
    });
    shown.collect::<serde_json::Map<_, _>>().into()
}

fn place_on_network(found: &Found, place: &Endpoint, networks: &Networks) -> Value {
    let network = networks.find(&place.network_id).ok().filter(|_| is_up(found));
    let six = place.address6.filter(|_| network.is_some());
    let bits6 = network.as_ref().and_then(|network| network.subnet6).map(|subnet| subnet.bits());
    let text = |shown: Option<String>| shown.unwrap_or_default();
    let of = |show: fn(&Network, &Endpoint) -> String| {
        text(network.as_ref().map(|network| show(network, place)))
    };
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": place.aliases,
        "MacAddress": of(|_, place| place.mac.to_string()),
        "DriverOpts": null,
        "GwPriority": 0,
        "NetworkID": place.network_id,
        "EndpointID": network.as_ref().map(|it| it.endpoint_id(&found.record.id)).unwrap_or_default(),
        "Gateway": of(|network, _| network.gateway.to_string()),
        "IPAddress": of(|_, place| place.address.to_string()),
        "IPPrefixLen": network.as_ref().map_or(0, |network| network.subnet.bits()),
        "IPv6Gateway": text(network.as_ref().and_then(|it| it.gateway6).map(|it| it.to_string())),
        "GlobalIPv6Address": text(six.map(|address| address.to_string())),
        "GlobalIPv6PrefixLen": six.and(bits6).unwrap_or(0),
        "DNSNames": names(&found.record, place),
    })
}

/// Where it is behind passt, while it runs.
fn place_by_passt(is_up: bool) -> Value {
    let text = |shown: String| if is_up { shown } else { String::new() };
    json!({
        "NetworkID": "",
        "EndpointID": "",
        "MacAddress": text(Mac::of(user::ADDRESS).to_string()),
        "Gateway": text(user::GATEWAY.to_string()),
        "IPAddress": text(user::ADDRESS.to_string()),
        "IPPrefixLen": if is_up { user::PREFIX_BITS } else { 0 },
    })
}

/// What it is found by on a network.
fn names(record: &Record, place: &Endpoint) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(place.aliases.iter().cloned());
    names.push(words::short_id(&record.id).to_owned());
    if !names.contains(&record.container.hostname) {
        names.push(record.container.hostname.clone());
    }
    names
}
