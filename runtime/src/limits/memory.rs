//! Reads `-m`: Docker's sizes, within what a machine can have.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use vmm::config::{MAX_MEMORY_MIB, MIN_MEMORY_MIB};

use super::{Size, SizeError};

/// The memory of a machine and of the container in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    /// The machine's, in whole MiB.
    mib: u32,
    /// The container's, in bytes.
    bytes: u64,
}

/// The smallest limit in which a program begins, in MiB.
const MIN_LIMIT_MIB: u32 = 4;

/// Why text is no machine's memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// No number, or a unit that does not exist.
    #[error(transparent)]
    Invalid(#[from] SizeError),
    /// Too small for a program to begin.
    #[error("minimum memory limit allowed is {MIN_LIMIT_MIB}MB")]
    TooSmall,
    /// Larger than the largest machine.
    #[error("maximum memory limit allowed is {} GiB", MAX_MEMORY_MIB >> 10)]
    TooLarge,
}

impl MemorySize {
    /// What a machine has without `-m`: 512 MiB.
    pub const DEFAULT: Self = Self { mib: 512, bytes: 512 << 20 };

    /// All of a machine of this size.
    #[must_use]
    pub fn of_machine(mib: u32) -> Self {
        Self { mib, bytes: u64::from(mib) << 20 }
    }

    /// The machine's size in MiB, no smaller than one that boots.
    #[must_use]
    pub const fn mib(self) -> u32 {
        self.mib
    }

    /// What was asked for, in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// The limit of the container, when the machine is larger than was asked for: in bytes.
    #[must_use]
    pub fn limit_bytes(self) -> Option<u64> {
        (self.bytes < u64::from(MIN_MEMORY_MIB) << 20).then_some(self.bytes)
    }
}

impl FromStr for MemorySize {
    type Err = MemoryError;

    /// A [`Size`]; a part of a MiB counts as a whole one.
    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let size: Size = text.parse()?;
        if size.bytes < u64::from(MIN_LIMIT_MIB) << 20 {
            return Err(MemoryError::TooSmall);
        }
        match u32::try_from(size.bytes.div_ceil(1 << 20)) {
            Ok(mib) if mib <= MAX_MEMORY_MIB => {
                Ok(Self { mib: mib.max(MIN_MEMORY_MIB), bytes: size.bytes })
            }
            _ => Err(MemoryError::TooLarge),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit_bytes() {
            Some(bytes) => Size { bytes }.fmt(formatter),
            None => write!(formatter, "{}m", self.mib),
        }
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
    fn a_limit_that_no_machine_has_is_the_containers() {
        for (text, mib, limit) in [
            ("4m", 64, Some(4 << 20)),
            ("4194305", 64, Some(4_194_305)),
            ("63m", 64, Some(63 << 20)),
            ("64m", 64, None),
            ("100m", 100, None),
        ] {
            let size: MemorySize = text.parse().unwrap();
            assert_eq!((size.mib(), size.limit_bytes()), (mib, limit), "{text}");
        }
        assert_eq!(MemorySize::DEFAULT.limit_bytes(), None);
        assert_eq!("4m".parse::<MemorySize>().unwrap().to_string(), "4m");
    }

    #[test]
    fn a_machine_has_limits() {
        for text in ["lots", "-5m"] {
            let error = text.parse::<MemorySize>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid size: '{text}'"));
        }
        for text in ["0", "3m", "4194303", "6"] {
            assert_eq!(text.parse::<MemorySize>(), Err(MemoryError::TooSmall), "{text}");
        }
        for text in ["1025g", "1.1t", "2p", "99999999999999999999999g"] {
            assert_eq!(text.parse::<MemorySize>(), Err(MemoryError::TooLarge), "{text}");
        }
    }
}
