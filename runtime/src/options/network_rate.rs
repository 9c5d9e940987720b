//! Reads `--network-rate`: how fast each of a container's interfaces is at most, either way.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::config::NetLimits;

use crate::limits::Size;

/// So many bytes in each second, into the container and as many out of it; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkRate {
    /// The bytes.
    pub bytes: u64,
}

/// Text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid network rate: {0}. It is a number of bytes in each second, as 500kb, 10mb or 1gb")]
pub struct NetworkRateError(String);

impl NetworkRate {
    /// What each of a machine's network devices keeps to.
    #[must_use]
    pub fn limits(self) -> NetLimits {
        let bytes = Some(self.bytes).filter(|bytes| *bytes > 0);
        NetLimits { received_bytes: bytes, sent_bytes: bytes }
    }
}

impl FromStr for NetworkRate {
    type Err = NetworkRateError;

    fn from_str(text: &str) -> Result<Self, NetworkRateError> {
        let size: Size = text.parse().map_err(|_| NetworkRateError(text.to_owned()))?;
        Ok(Self { bytes: size.bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_and_holds_both_ways() {
        let limits = |text: &str| text.parse().map(NetworkRate::limits);
        let both = |bytes| NetLimits { received_bytes: bytes, sent_bytes: bytes };
        assert_eq!(limits("10mb"), Ok(both(Some(10 << 20))));
        assert_eq!(limits("1000"), Ok(both(Some(1000))));
        assert_eq!(limits("0"), Ok(both(None)));
        for text in ["", "-1", "fast", "10mbit"] {
            assert_eq!(limits(text), Err(NetworkRateError(text.to_owned())));
        }
    }
}
