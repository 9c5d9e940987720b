//! Reads `-m`: Docker's sizes, within what a machine can have.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use vmm::config::{MAX_MEMORY_MIB, MIN_MEMORY_MIB};

use super::{Size, SizeError};

/// A machine's memory in whole MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    mib: u32,
}

/// Why text is no machine's memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// No number, or a unit that does not exist.
    #[error(transparent)]
    Invalid(#[from] SizeError),
    /// Smaller than the smallest machine.
    #[error("minimum memory limit allowed is {MIN_MEMORY_MIB}MB")]
    TooSmall,
    /// Larger than the largest machine.
    #[error("maximum memory limit allowed is {} GiB", MAX_MEMORY_MIB >> 10)]
    TooLarge,
}

impl MemorySize {
    /// What a machine has without `-m`: 512 MiB.
    pub const DEFAULT: Self = Self { mib: 512 };

    /// The size in MiB.
    #[must_use]
    pub const fn mib(self) -> u32 {
        self.mib
    }
}

impl FromStr for MemorySize {
    type Err = MemoryError;

    /// A [`Size`]; a part of a MiB counts as a whole one.
    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let size: Size = text.parse()?;
        let mib = size.bytes.div_ceil(1 << 20);
        if mib < u64::from(MIN_MEMORY_MIB) {
            return Err(MemoryError::TooSmall);
        }
        match u32::try_from(mib) {
            Ok(mib) if mib <= MAX_MEMORY_MIB => Ok(Self { mib }),
            _ => Err(MemoryError::TooLarge),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}m", self.mib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        let cases = [
            ("128M", 128),
            ("128m", 128),
            ("512mb", 512),
            ("1g", 1024),
            ("1.5g", 1536),
            ("4G", 4096),
            ("1GiB", 1024),
            ("2 gb", 2048),
            ("134217728", 128),
            ("134217728b", 128),
            ("134217729b", 129),
            ("65536k", 64),
            ("1t", 1 << 20),
            ("64m", 64),
        ];
        for (text, mib) in cases {
            assert_eq!(text.parse::<MemorySize>().map(MemorySize::mib), Ok(mib), "{text}");
        }
    }

    #[test]
    fn a_machine_has_limits() {
        for text in ["lots", "-5m"] {
            let error = text.parse::<MemorySize>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid size: '{text}'"));
        }
        for text in ["0", "4m", "63m", "6"] {
            assert_eq!(text.parse::<MemorySize>(), Err(MemoryError::TooSmall), "{text}");
        }
        for text in ["1025g", "1.1t", "2p", "99999999999999999999999g"] {
            assert_eq!(text.parse::<MemorySize>(), Err(MemoryError::TooLarge), "{text}");
        }
    }
}
