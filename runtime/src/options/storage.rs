//! Reads `--storage-opt`: the size of what a container may write.

use std::str::FromStr;

use thiserror::Error;

use crate::limits::{ScratchError, ScratchSize};

/// One `--storage-opt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageOption {
    /// `size=SIZE`.
    Size(ScratchSize),
}

/// Text that is no storage option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StorageError {
    /// No key that a disk knows.
    #[error("unknown storage opt {0:?}: there is size=SIZE")]
    Unknown(String),
    /// A size that no disk has.
    #[error(transparent)]
    Size(#[from] ScratchError),
}

impl FromStr for StorageOption {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        match text.split_once('=') {
            Some((key, size)) if key.eq_ignore_ascii_case("size") => Ok(Self::Size(size.parse()?)),
            _ => Err(StorageError::Unknown(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_size_is_known() {
        let size = ScratchSize::DEFAULT;
        assert_eq!("size=10g".parse(), Ok(StorageOption::Size(size)));
        assert_eq!("SIZE=10240m".parse(), Ok(StorageOption::Size(size)));
        for (text, wanted) in [
            ("size", "unknown storage opt \"size\""),
            ("inodes=7", "unknown storage opt \"inodes=7\""),
            ("size=", "invalid size: ''"),
            ("size=1k", "storage size must be from 64m to 8t"),
        ] {
            let error = text.parse::<StorageOption>().unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
