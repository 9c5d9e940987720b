//! `hyperrun port`: which ports of the host lead to a container; and all its ports in words, for lists.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use runtime::options::{ContainerPort, Expose, Protocol};

use crate::arguments::Common;
use crate::commands::{containers, print};
use crate::failure::Failure;

/// List the ports of the host that lead to a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun port web 80/tcp")]
pub(crate) struct PortArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    name: String,
    /// Only those that lead to this port of the container
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Prints a line for each.
pub(crate) fn run(args: &PortArgs, common: &Common) -> Result<ExitCode, Failure> {
    let found = containers(common)?.find(&args.name)?;
    let ports = found.ports();
    let text: String = match &args.port {
        None => ports
            .iter()
            .flat_map(|(port, hosts)| hosts.iter().map(move |host| format!("{port} -> {host}\n")))
            .collect(),
        Some(words) => {
            let hosts = one(words).and_then(|port| ports.get(&port));
            let hosts: String =
                hosts.into_iter().flatten().map(|host| format!("{host}\n")).collect();
            if hosts.is_empty() {
                let words = one(words).map_or_else(|| words.clone(), |port| port.to_string());
                let error = format!("no public port '{words}' published for {}", args.name);
                return Err(Failure::new(&error, "`hyperrun port CONTAINER` lists all that are"));
            }
            hosts
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn one(words: &str) -> Option<ContainerPort> {
    match words.parse().ok()? {
        Expose(ports) if ports.len() == 1 => ports.first().copied(),
        Expose(_) => None,
    }
}

/// Ports in a row that lead to the same numbers.
struct Group {
    address: Option<IpAddr>,
    protocol: Protocol,
    first: u16,
    last: u16,
}

/// All ports in one line, as Docker has it: `0.0.0.0:8080->80/tcp, 443/tcp`.
pub(crate) fn line(ports: &BTreeMap<ContainerPort, Vec<SocketAddr>>) -> String {
    let (mut groups, mut others): (Vec<Group>, Vec<String>) = Default::default();
    for (port, hosts) in ports {
        let mut add = |address: Option<IpAddr>| {
            let (protocol, first, last) = (port.protocol, port.number, port.number);
            let is_next = |group: &&mut Group| {
                group.address == address
                    && group.protocol == protocol
                    && group.last.checked_add(1) == Some(first)
            };
            match groups.iter_mut().find(is_next) {
                Some(group) => group.last = last,
                None => groups.push(Group { address, protocol, first, last }),
            }
        };
        if hosts.is_empty() {
            add(None);
        }
        for host in hosts {
            match host.port() == port.number {
                true => add(Some(host.ip())),
                false => others.push(format!("{host}->{port}")),
            }
        }
    }
    let groups = groups.iter().map(Group::words);
    groups.chain(others).collect::<Vec<_>>().join(", ")
}

impl Group {
    fn words(&self) -> String {
        let Self { address, protocol, first, last } = self;
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        match address {
            None => format!("{range}/{protocol}"),
            Some(IpAddr::V4(address)) => format!("{address}:{range}->{range}/{protocol}"),
            Some(IpAddr::V6(address)) => format!("[{address}]:{range}->{range}/{protocol}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_in_dockers_words() {
        let ports = |all: &[(&str, &[&str])]| {
            let all = all.iter().map(|(port, hosts)| {
                (one(port).unwrap(), hosts.iter().map(|host| host.parse().unwrap()).collect())
            });
            line(&all.collect())
        };
        assert_eq!(ports(&[]), "");
        assert_eq!(
            ports(&[
                ("80", &["0.0.0.0:8080", "[::]:8080"]),
                ("81", &["0.0.0.0:81", "[::]:81"]),
                ("82", &["0.0.0.0:82"]),
                ("82/udp", &["127.0.0.1:82"]),
                ("84", &["0.0.0.0:84"]),
                ("90", &[]),
                ("91", &[]),
            ]),
            "0.0.0.0:81-82->81-82/tcp, [::]:81->81/tcp, 127.0.0.1:82->82/udp, 0.0.0.0:84->84/tcp, \
             90-91/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
    }
}
