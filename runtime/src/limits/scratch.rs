//! Reads the size of a scratch disk, within what one can have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Size, SizeError};

/// The size of the disk that takes what a container writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScratchSize {
    mib: u32,
}

/// The smallest disk that has room for a journal, in MiB.
const MIN_MIB: u32 = 64;
/// The largest, in MiB: 8 TiB, since a file of ext4 ends at 16.
const MAX_MIB: u32 = 8 << 20;

/// Why text is no size of a scratch disk.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScratchError {
    /// No number, or a unit that does not exist.
    #[error(transparent)]
    Invalid(#[from] SizeError),
    /// Too small, or too large.
    #[error("storage size must be from {MIN_MIB}m to {}t", MAX_MIB >> 20)]
    Range,
}

impl ScratchSize {
    /// 10 GiB, nearly all of it holes.
    pub const DEFAULT: Self = Self { mib: 10 << 10 };

    /// In MiB.
    #[must_use]
    pub fn mib(self) -> u32 {
        self.mib
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.mib) << 20
    }
}

impl Default for ScratchSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for ScratchSize {
    type Err = ScratchError;

    /// A [`Size`]; a part of a MiB counts as a whole one.
    fn from_str(text: &str) -> Result<Self, ScratchError> {
        let size: Size = text.parse()?;
        match u32::try_from(size.bytes.div_ceil(1 << 20)) {
            Ok(mib) if (MIN_MIB..=MAX_MIB).contains(&mib) => Ok(Self { mib }),
            _ => Err(ScratchError::Range),
        }
    }
}

impl fmt::Display for ScratchSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size { bytes: self.bytes() }.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_have_bounds() {
        for (text, mib, shown) in [
            ("10g", 10240, "10g"),
            ("64m", 64, "64m"),
            ("67108863", 64, "64m"),
            ("67108865", 65, "65m"),
            ("8T", 8 << 20, "8t"),
        ] {
            let size: ScratchSize = text.parse().unwrap();
            assert_eq!((size.mib(), size.to_string().as_str()), (mib, shown), "{text}");
        }
        for text in ["0", "63m", "8193g", "99999999p"] {
            assert_eq!(text.parse::<ScratchSize>(), Err(ScratchError::Range), "{text}");
        }
        assert!(matches!("much".parse::<ScratchSize>(), Err(ScratchError::Invalid(_))));
    }
}
