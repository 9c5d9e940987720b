//! What the files in a container's `/etc` say of its networks.

use std::net::IpAddr;

use protocol::ContainerSpec;

use crate::options::HOST_GATEWAY;

/// Where a name of its own is that has no address.
const OWN_LOOPBACK: &str = "127.0.1.1";

/// `/etc/hosts`: the lines that were asked for, and the container's own name.
pub(crate) fn hosts(container: &ContainerSpec) -> String {
    let hostname = &container.hostname;
    let names = match container.domain_name.as_str() {
        "" => hostname.clone(),
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    let mut text = container.etc.hosts.clone();
    for (_, interface) in &container.networks {
        text.push_str(&format!("{}\t{names}\n", interface.address));
        if let Some(six) = interface.six {
            text.push_str(&format!("{}\t{names}\n", six.address));
        }
    }
    // An older record has the line already.
    if container.networks.is_empty() && !text.contains(OWN_LOOPBACK) {
        text.push_str(&format!("{OWN_LOOPBACK}\t{hostname}\n"));
    }
    text
}

/// The lines, with the host's own address in those that ask for it. Where it has none, they are left out.
pub(crate) fn with_gateway(lines: &str, gateway: Option<IpAddr>) -> String {
    let line = |line: &str| match line.strip_prefix(HOST_GATEWAY) {
        None => Some(format!("{line}\n")),
        Some(names) => gateway.map(|gateway| format!("{gateway}{names}\n")),
    };
    lines.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::sample;
    use protocol::{Interface, Interface6, MmioDevice};

    #[test]
    fn a_container_knows_its_own_name() {
        let lines = "127.0.0.1\tlocalhost\n192.0.2.1\tdb\n";
        let mut container = sample("", "finch").container;
        lines.clone_into(&mut container.etc.hosts);
        let alone = hosts(&container);
        assert_eq!(alone, format!("{lines}127.0.1.1\tfinch\n"));
        container.etc.hosts.clone_from(&alone);
        assert_eq!(hosts(&container), alone);
        lines.clone_into(&mut container.etc.hosts);
        let eth0 = Interface {
            mac: [0; 6],
            address: [172, 16, 0, 2].into(),
            prefix_bits: 20,
            gateway: None,
            six: None,
            mtu: 1500,
            offloads: true,
        };
        container.networks.push((MmioDevice { index: 3 }, eth0));
        assert_eq!(hosts(&container), format!("{lines}172.16.0.2\tfinch\n"));
        let address = "fd00::2".parse().unwrap();
        container.networks[0].1.six = Some(Interface6 { address, prefix_bits: 64, gateway: None });
        container.etc.hosts.clear();
        "example.org".clone_into(&mut container.domain_name);
        assert_eq!(
            hosts(&container),
            "172.16.0.2\tfinch.example.org finch\nfd00::2\tfinch.example.org finch\n"
        );
    }

    #[test]
    fn the_host_is_where_the_first_network_reaches_it() {
        let lines = "127.0.0.1\tlocalhost\nhost-gateway\tdocker.host\n";
        let gateway = Some([172, 16, 0, 1].into());
        assert_eq!(with_gateway(lines, gateway), "127.0.0.1\tlocalhost\n172.16.0.1\tdocker.host\n");
        assert_eq!(with_gateway(lines, None), "127.0.0.1\tlocalhost\n");
    }
}
