//! A network's addresses: all that begin with the same bits.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An address of one kind or the other, as a number.
pub trait Address: Copy + Eq + Display + FromStr {
    /// How many bits it has.
    const BITS: u8;
    /// As a number.
    fn number(self) -> u128;
    /// From a number, of which only the lowest bits count.
    fn of_number(number: u128) -> Self;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;

    fn number(self) -> u128 {
        u128::from(self.to_bits())
    }

    fn of_number(number: u128) -> Self {
        let bits = number & u128::from(u32::MAX);
        Self::from_bits(u32::try_from(bits).expect("it has 32 bits"))
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;

    fn number(self) -> u128 {
        self.to_bits()
    }

    fn of_number(number: u128) -> Self {
        Self::from_bits(number)
    }
}

/// The addresses of a network, as `172.16.0.0/20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    into = "String",
    try_from = "String",
    bound(serialize = "A: Address", deserialize = "A: Address")
)]
pub struct Prefix<A: Address> {
    first: A,
    bits: u8,
}

/// Those of IPv4.
pub type Subnet = Prefix<Ipv4Addr>;
/// Those of IPv6.
pub type Subnet6 = Prefix<Ipv6Addr>;

/// Text that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// Not an address, a slash and a number of bits.
    #[error("invalid CIDR address: {0}")]
    Format(String),
    /// There are bits behind the prefix.
    #[error("invalid subnet {given}: it should be {meant}")]
    HostBits {
        /// As it was written.
        given: String,
        /// Without them.
        meant: String,
    },
}

impl<A: Address> Prefix<A> {
    /// The network that an address is in; none when there are not as many bits.
    pub fn around(address: A, bits: u8) -> Option<Self> {
        (bits <= A::BITS).then(|| {
            let first = A::of_number(address.number() & !host_mask::<A>(bits));
            Self { first, bits }
        })
    }

    /// Its first address, which is the network's own.
    pub fn first(self) -> A {
        self.first
    }

    /// Its last address, which for IPv4 is everybody's.
    pub fn last(self) -> A {
        A::of_number(self.first.number() | host_mask::<A>(self.bits))
    }

    /// How many of an address's bits are the network's.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The address so many behind the first; none when that is in another network.
    pub fn at(self, index: u128) -> Option<A> {
        let within = index <= host_mask::<A>(self.bits);
        within.then(|| A::of_number(self.first.number() + index))
    }

    /// Whether an address is in it.
    pub fn contains(self, address: A) -> bool {
        address.number() & !host_mask::<A>(self.bits) == self.first.number()
    }

    /// Whether there are addresses that are in both.
    pub fn overlaps(self, other: Self) -> bool {
        let (wide, narrow) = if self.bits <= other.bits { (self, other) } else { (other, self) };
        wide.contains(narrow.first)
    }
}

/// All bits behind the prefix.
fn host_mask<A: Address>(bits: u8) -> u128 {
    let host_bits = u32::from(A::BITS - bits);
    1u128.checked_shl(host_bits).map_or(u128::MAX, |above| above - 1)
}

impl<A: Address> Display for Prefix<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.bits)
    }
}

impl<A: Address> FromStr for Prefix<A> {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let wrong = || PrefixError::Format(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address: A = address.parse().map_err(|_| wrong())?;
        let prefix = Self::around(address, bits.parse().map_err(|_| wrong())?).ok_or_else(wrong)?;
        if prefix.first != address {
            let (given, meant) = (text.to_owned(), prefix.to_string());
            return Err(PrefixError::HostBits { given, meant });
        }
        Ok(prefix)
    }
}

impl<A: Address> From<Prefix<A>> for String {
    fn from(prefix: Prefix<A>) -> Self {
        prefix.to_string()
    }
}

impl<A: Address> TryFrom<String> for Prefix<A> {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn text_becomes_a_prefix_and_text_again() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "172.16.240.0/20", "192.0.2.7/32"] {
            assert_eq!(subnet(text).to_string(), text);
        }
        for text in ["::/0", "fd00:1::/64", "2001:db8::1/128"] {
            assert_eq!(text.parse::<Subnet6>().unwrap().to_string(), text);
        }
        let json = serde_json::to_string(&subnet("10.0.0.0/8")).unwrap();
        assert_eq!(json, "\"10.0.0.0/8\"");
        assert_eq!(serde_json::from_str::<Subnet>(&json).unwrap(), subnet("10.0.0.0/8"));
        assert!(serde_json::from_str::<Subnet>("\"10.0.0.1/8\"").is_err());
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "::/0", "10.0.0.0/-1"]
        {
            let error = text.parse::<Subnet>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid CIDR address: {text}"));
        }
        assert!("10.0.0.0/8".parse::<Subnet6>().is_err() && "::/129".parse::<Subnet6>().is_err());
        assert_eq!(
            "10.1.2.3/24".parse::<Subnet>().unwrap_err().to_string(),
            "invalid subnet 10.1.2.3/24: it should be 10.1.2.0/24"
        );
    }

    #[test]
    fn addresses_are_in_or_out() {
        let net = subnet("172.18.0.0/20");
        assert_eq!((net.first(), net.last()), ([172, 18, 0, 0].into(), [172, 18, 15, 255].into()));
        assert_eq!(net.at(258), Some([172, 18, 1, 2].into()));
        assert_eq!((net.at(4095), net.at(4096)), (Some(net.last()), None));
        assert!(net.contains([172, 18, 15, 255].into()) && !net.contains([172, 18, 16, 0].into()));
        let all: Subnet6 = "::/0".parse().unwrap();
        assert_eq!(all.at(u128::MAX), Some(Ipv6Addr::from_bits(u128::MAX)));
    }

    #[test]
    fn networks_overlap_when_one_is_in_the_other() {
        for (one, other, wanted) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("0.0.0.0/0", "192.0.2.1/32", true),
            ("192.0.2.1/32", "192.0.2.2/32", false),
        ] {
            assert_eq!(subnet(one).overlaps(subnet(other)), wanted, "{one} {other}");
        }
    }
}
