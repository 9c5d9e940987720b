//! The names on one network, as its file and its leases have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

/// The digits of an id that a person sees.
const SHORT_DIGITS: usize = 12;

/// A network, as far as names are concerned: `network.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Network {
    /// Its name, which may stand behind a container's.
    pub(crate) name: String,
    /// Where it is asked.
    pub(crate) gateway: Ipv4Addr,
    /// Its addresses.
    pub(crate) subnet: Subnet<Ipv4Addr>,
    /// Those of IPv6.
    #[serde(default)]
    pub(crate) subnet6: Option<Subnet<Ipv6Addr>>,
    /// Whether nothing of it leaves the host.
    #[serde(default)]
    pub(crate) internal: bool,
}

/// A container's place on a network: a file among its leases.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Lease {
    pub(crate) container: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    #[serde(default)]
    pub(crate) address: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) address6: Option<Ipv6Addr>,
    /// Who is asked for it instead of the host's resolvers.
    #[serde(default)]
    pub(crate) dns: Vec<IpAddr>,
}

/// Addresses that begin with the same bits: `172.17.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound(deserialize = "A: std::str::FromStr"))]
pub(crate) struct Subnet<A> {
    address: A,
    bits: u32,
}

/// Text that is no such range.
#[derive(Debug)]
pub(crate) struct SubnetError;

impl std::fmt::Display for SubnetError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("neither address nor number of bits")
    }
}

impl<A: std::str::FromStr> TryFrom<String> for Subnet<A> {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Self, SubnetError> {
        let (address, bits) = text.split_once('/').ok_or(SubnetError)?;
        let address = address.parse().map_err(|_| SubnetError)?;
        Ok(Self { address, bits: bits.parse().map_err(|_| SubnetError)? })
    }
}

impl Subnet<Ipv4Addr> {
    fn contains(self, other: Ipv4Addr) -> bool {
        let difference = self.address.to_bits() ^ other.to_bits();
        difference.checked_shr(32_u32.saturating_sub(self.bits)).unwrap_or(0) == 0
    }
}

impl Subnet<Ipv6Addr> {
    fn contains(self, other: Ipv6Addr) -> bool {
        let difference = self.address.to_bits() ^ other.to_bits();
        difference.checked_shr(128_u32.saturating_sub(self.bits)).unwrap_or(0) == 0
    }
}

impl Network {
    /// Whether an address is one of this network's.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet.contains(address),
            IpAddr::V6(address) => self.subnet6.is_some_and(|subnet| subnet.contains(address)),
        }
    }

    /// Whether this name, in small letters and without a dot at its end, is the lease's.
    pub(crate) fn fits(&self, lease: &Lease, name: &str) -> bool {
        lease.is_called(name)
            || name
                .strip_suffix(self.name.to_ascii_lowercase().as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| lease.is_called(rest))
    }
}

impl Lease {
    fn is_called(&self, name: &str) -> bool {
        let short = self.container.get(..SHORT_DIGITS).unwrap_or_default();
        let own = [&self.name, &self.hostname, &self.container].map(String::as_str);
        let aliases = self.aliases.iter().map(String::as_str);
        own.into_iter()
            .chain([short])
            .chain(aliases)
            .any(|own| !own.is_empty() && own.eq_ignore_ascii_case(name))
    }

    /// Whether this address is the lease's.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.address == Some(address),
            IpAddr::V6(address) => self.address6 == Some(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_container_has_many_names() {
        let network = network(r#"{"name":"Back","gateway":"10.0.0.1","subnet":"10.0.0.0/24"}"#);
        let id = format!("0123456789ab{}", "c".repeat(52));
        let lease = Lease {
            container: id.clone(),
            name: "Db_1".into(),
            hostname: "store".into(),
            aliases: vec!["sql".into(), "sql.example".into()],
            ..Lease::default()
        };
        for name in ["db_1", "store", "sql", "sql.example", "0123456789ab", &id, "db_1.back"] {
            assert!(network.fits(&lease, name), "{name}");
        }
        for name in ["", "db", "db_1.front", "0123456789abc", ".back", "back", "example"] {
            assert!(!network.fits(&lease, name), "{name}");
        }
        assert!(!network.fits(&Lease::default(), ""));
    }

    #[test]
    fn a_network_knows_its_addresses() {
        let network = network(
            r#"{"name":"n","gateway":"10.1.0.1","subnet":"10.1.0.0/20","subnet6":"fd00:1::/64"}"#,
        );
        for (address, wanted) in [
            ("10.1.0.0", true),
            ("10.1.15.255", true),
            ("10.1.16.0", false),
            ("fd00:1::5", true),
            ("fd00:2::5", false),
        ] {
            assert_eq!(network.contains(address.parse().unwrap()), wanted, "{address}");
        }
        let all: Subnet<Ipv4Addr> = "0.0.0.0/0".to_owned().try_into().unwrap();
        assert!(all.contains([255, 1, 2, 3].into()));
        let one: Subnet<Ipv4Addr> = "10.0.0.1/32".to_owned().try_into().unwrap();
        assert!(one.contains([10, 0, 0, 1].into()) && !one.contains([10, 0, 0, 2].into()));
        assert!(Subnet::<Ipv4Addr>::try_from("10.0.0.1".to_owned()).is_err());
    }
}
