//! A hardware address.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A hardware address of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// Text that is no hardware address of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is not a valid mac address")]
pub struct MacError(String);

impl Mac {
    /// What an interface with this address has unless it is told otherwise, as Docker has it: the one
    /// tells the other, so that static rules can check both.
    #[must_use]
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError(text.to_owned());
        let byte = |part: &str| match part.len() {
            1 | 2 if part.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                u8::from_str_radix(part, 16).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        };
        let bytes: Vec<u8> = text.split([':', '-']).map(byte).collect::<Result<_, _>>()?;
        let bytes: [u8; 6] = bytes.try_into().map_err(|_| wrong())?;
        // Those of groups have the lowest bit of the first byte, and no interface has all zeros.
        let is_one = bytes[0] & 1 == 0 && bytes != [0; 6];
        is_one.then_some(Self(bytes)).ok_or_else(wrong)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_an_address() {
        let mac: Mac = "02-42-AC-11-0-2".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(Mac::of([172, 17, 0, 2].into()), mac);
        for text in
            ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:00:0x", "0242ac110002"]
        {
            let error = text.parse::<Mac>().unwrap_err();
            assert_eq!(error.to_string(), format!("{text} is not a valid mac address"));
        }
    }

    #[test]
    fn no_interface_has_the_address_of_a_group_or_of_nobody() {
        for text in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
