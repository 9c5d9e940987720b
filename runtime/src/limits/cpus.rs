//! Reads `--cpus`: a number with a fraction, which becomes vCPUs and a share of their time.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use vmm::config::MAX_VCPUS;

/// How many CPUs a container may keep busy, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus {
    hundredths: u16,
}

/// Why text is no number of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CpusError {
    /// No decimal number.
    #[error("failed to parse {0} as a rational number")]
    Invalid(String),
    /// Outside of what a machine can have.
    #[error("range of CPUs is from 0.01 to {MAX_VCPUS}.00")]
    Range,
}

impl Cpus {
    /// What a machine has without `--cpus`.
    pub const DEFAULT: Self = Self { hundredths: 100 };

    /// The fewest vCPUs that can do this much work.
    #[must_use]
    pub fn vcpus(self) -> u8 {
        u8::try_from(self.hundredths.div_ceil(100)).expect("32 CPUs at most")
    }

    /// The microseconds of CPU time in each period of 100 ms, when that is less than all the vCPUs
    /// give.
    #[must_use]
    pub fn quota_us(self) -> Option<u64> {
        self.quota_of(self.vcpus())
    }

    /// The same in a machine with so many vCPUs.
    #[must_use]
    pub fn quota_of(self, vcpus: u8) -> Option<u64> {
        let less = self.hundredths < u16::from(vcpus) * 100;
        less.then(|| u64::from(self.hundredths) * 1000)
    }
}

impl FromStr for Cpus {
    type Err = CpusError;

    /// A decimal number; what is finer than a hundredth is cut off, as the kernel's smallest
    /// quota (1 ms in 100 ms) is.
    fn from_str(text: &str) -> Result<Self, CpusError> {
        let invalid = || CpusError::Invalid(text.to_owned());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return Err(invalid());
        }
        let whole: u16 =
            if whole.is_empty() { 0 } else { whole.parse().map_err(|_| CpusError::Range)? };
        let fraction: u16 = format!("{fraction:0<2.2}").parse().map_err(|_| invalid())?;
        let hundredths = whole.checked_mul(100).and_then(|sum| sum.checked_add(fraction));
        hundredths
            .filter(|hundredths| (1..=u16::from(MAX_VCPUS) * 100).contains(hundredths))
            .map(|hundredths| Self { hundredths })
            .ok_or(CpusError::Range)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.hundredths / 100, self.hundredths % 100) {
            (whole, 0) => write!(formatter, "{whole}"),
            (whole, fraction) => write!(formatter, "{whole}.{fraction:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_vcpus_and_a_quota() {
        let cases = [
            ("1", 1, None),
            ("1.0", 1, None),
            ("0.5", 1, Some(50_000)),
            (".5", 1, Some(50_000)),
            ("0.01", 1, Some(1_000)),
            ("1.5", 2, Some(150_000)),
            ("2.25", 3, Some(225_000)),
            ("2.259", 3, Some(225_000)),
            ("4", 4, None),
            ("32", 32, None),
        ];
        for (text, vcpus, quota) in cases {
            let cpus: Cpus = text.parse().unwrap();
            assert_eq!((cpus.vcpus(), cpus.quota_us()), (vcpus, quota), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_errors() {
        for text in ["0", "0.001", "0.00", "33", "32.01", "100000000"] {
            assert_eq!(text.parse::<Cpus>(), Err(CpusError::Range), "{text}");
        }
        for text in ["", ".", "-1", "1,5", "abc", "1e1", "0x1", "1.5.2", "+1"] {
            assert_eq!(text.parse::<Cpus>(), Err(CpusError::Invalid(text.to_owned())), "{text}");
        }
    }
}
