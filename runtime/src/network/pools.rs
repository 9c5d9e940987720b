//! Which addresses a network gets that has asked for none: those that nobody else on this host uses.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::NetworkError;
use super::prefix::{Prefix, Subnet, Subnet6};

/// Private addresses (RFC 1918), and how far each is cut up. The first has been Docker's choice, too.
const POOLS: [([u8; 4], u8); 3] =
    [([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16), ([10, 0, 0, 0], 8)];
/// How many of the bits are a network's: 4,093 containers.
const BITS: u8 = 20;

/// Addresses that others have, and who they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// Of IPv4.
    pub(crate) subnets: Vec<(Subnet, String)>,
    /// Of IPv6.
    pub(crate) subnets6: Vec<(Subnet6, String)>,
}

impl Taken {
    /// A subnet that nobody has.
    pub(super) fn check(&self, subnet: Subnet) -> Result<Subnet, NetworkError> {
        match self.subnets.iter().find(|(other, _)| other.overlaps(subnet)) {
            Some((other, holder)) => Err(overlap(other, holder)),
            None => Ok(subnet),
        }
    }

    /// The same of IPv6.
    pub(super) fn check6(&self, subnet: Subnet6) -> Result<Subnet6, NetworkError> {
        match self.subnets6.iter().find(|(other, _)| other.overlaps(subnet)) {
            Some((other, holder)) => Err(overlap(other, holder)),
            None => Ok(subnet),
        }
    }
}

fn overlap(prefix: &impl std::fmt::Display, holder: &str) -> NetworkError {
    NetworkError::Overlap { other: format!("{holder} has {prefix}") }
}

/// The first subnet of the pools that nobody has.
pub(super) fn pick(taken: &Taken) -> Option<Subnet> {
    POOLS.iter().find_map(|(first, bits)| {
        let count = 1u128 << (BITS - bits);
        let pool: Subnet = Prefix::around(Ipv4Addr::from(*first), *bits)?;
        let mut subnets =
            (0..count).filter_map(|index| Prefix::around(pool.at(index << (32 - BITS))?, BITS));
        subnets.find(|subnet| taken.check(*subnet).is_ok())
    })
}

/// A subnet of unique local addresses (RFC 4193), whose 40 bits come from the network's id.
pub(super) fn unique_local(id: &str) -> Subnet6 {
    let digits = id.get(..10).and_then(|digits| u128::from_str_radix(digits, 16).ok());
    let address = Ipv6Addr::from_bits((0xfd << 120) | (digits.unwrap_or(0) << 80));
    Prefix::around(address, 64).expect("an address has 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(subnets: &[&str]) -> Taken {
        let subnets = subnets.iter().map(|text| (text.parse().unwrap(), (*text).to_owned()));
        Taken { subnets: subnets.collect(), subnets6: Vec::new() }
    }

    #[test]
    fn the_first_free_subnet_is_picked() {
        for (others, wanted) in [
            (&[][..], Some("172.16.0.0/20")),
            (&["172.16.0.0/24"], Some("172.16.16.0/20")),
            (&["172.16.0.0/13"], Some("172.24.0.0/20")),
            (&["172.16.0.0/12"], Some("192.168.0.0/20")),
            (&["172.16.0.0/12", "192.168.0.0/16"], Some("10.0.0.0/20")),
            (&["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/9"], Some("10.128.0.0/20")),
            (&["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"], None),
            (&["0.0.0.0/1", "128.0.0.0/1"], None),
        ] {
            let picked = pick(&taken(others)).map(|subnet| subnet.to_string());
            assert_eq!(picked.as_deref(), wanted, "{others:?}");
        }
    }

    #[test]
    fn what_somebody_has_is_said_with_their_name() {
        let taken = Taken {
            subnets: vec![("10.0.0.0/8".parse().unwrap(), "eth0".into())],
            ..Taken::default()
        };
        let error = taken.check("10.7.0.0/16".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("Pool overlaps"));
        assert!(error.hint().unwrap().starts_with("eth0 has 10.0.0.0/8"));
        assert!(taken.check("11.0.0.0/16".parse().unwrap()).is_ok());
    }

    #[test]
    fn unique_local_addresses_come_from_the_id() {
        assert_eq!(unique_local(&"12345678".repeat(8)).to_string(), "fd12:3456:7812::/64");
    }
}
