//! Reads `-m`: Docker's sizes, within what a machine can have.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use vmm::config::{MAX_MEMORY_MIB, MIN_MEMORY_MIB};

/// A machine's memory in whole MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    mib: u32,
}

/// Why text is no machine's memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// No number, or a unit that does not exist.
    #[error("invalid size: '{0}'")]
    Invalid(String),
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

    /// A number, perhaps with a fraction, and one of b, k, m, g, t, p in either case, perhaps with
    /// `b` or `ib` behind it; all are powers of 1024 (`RAMInBytes` of Docker's go-units). A part of
    /// a MiB counts as a whole one.
    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let invalid = || MemoryError::Invalid(text.to_owned());
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
            return Err(invalid());
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let shift = unit_shift(unit).ok_or_else(invalid)?;
        let mib = (number * f64::from(shift).exp2() / f64::from(1 << 20)).ceil();
        if mib < f64::from(MIN_MEMORY_MIB) {
            return Err(MemoryError::TooSmall);
        }
        if mib > f64::from(MAX_MEMORY_MIB) {
            return Err(MemoryError::TooLarge);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number between the two limits, which are u32"
        )]
        let mib = mib as u32;
        Ok(Self { mib })
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}m", self.mib)
    }
}

/// The power of two a unit stands for.
fn unit_shift(unit: &str) -> Option<u32> {
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let letter = unit.strip_suffix('i').unwrap_or(unit);
    ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|known| *known == letter)
        .map(|at| u32::try_from(at * 10).expect("six units have six shifts"))
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
    fn what_is_no_size_is_said() {
        for text in ["", "m", "abc", "-1g", "1x", "1gg", ".5g", "1.g", "1.2.3g", "1  g", "1e9"] {
            let error = text.parse::<MemorySize>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid size: '{text}'"));
        }
    }

    #[test]
    fn a_machine_has_limits() {
        for text in ["0", "4m", "63m", "6"] {
            assert_eq!(text.parse::<MemorySize>(), Err(MemoryError::TooSmall), "{text}");
        }
        for text in ["1025g", "1.1t", "2p", "99999999999999999999999g"] {
            assert_eq!(text.parse::<MemorySize>(), Err(MemoryError::TooLarge), "{text}");
        }
    }
}
