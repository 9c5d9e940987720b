//! Reads `--cpuset-cpus`: which of the host's CPUs a machine runs on.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Some of the host's CPUs, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet {
    text: String,
    cpus: BTreeSet<usize>,
}

/// Text that is no list of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid value {0} for cpuset cpus")]
pub struct CpuSetError(String);

impl CpuSet {
    /// The most that can be asked of the kernel.
    const MAX: usize = rustix::thread::CpuSet::MAX_CPU;

    /// Their numbers.
    pub fn cpus(&self) -> impl Iterator<Item = usize> + '_ {
        self.cpus.iter().copied()
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    /// Numbers and ranges: `0-3,7`.
    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let wrong = || CpuSetError(text.to_owned());
        let number = |text: &str| {
            let number: usize = text.trim().parse().map_err(|_| wrong())?;
            if number < Self::MAX { Ok(number) } else { Err(wrong()) }
        };
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(Self { text: text.to_owned(), cpus })
    }
}

impl TryFrom<String> for CpuSet {
    type Error = CpuSetError;

    fn try_from(text: String) -> Result<Self, CpuSetError> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.text
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_numbers_and_ranges() {
        for (text, wanted) in [("0", vec![0]), ("0-2", vec![0, 1, 2]), ("3,1-1,3", vec![1, 3])] {
            let set: CpuSet = text.parse().unwrap();
            assert_eq!(set.cpus().collect::<Vec<_>>(), wanted);
            assert_eq!(set.to_string(), text);
        }
        for text in ["", "a", "1-", "-1", "2-1", "1,,2", "0-99999999", "1;2"] {
            assert_eq!(text.parse::<CpuSet>(), Err(CpuSetError(text.to_owned())));
        }
    }
}
