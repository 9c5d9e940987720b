//! What snapshots are called: as containers are, so that no name is anything but a folder's.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::spec::ContainerName;

/// A snapshot's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotName(String);

/// Text that is no snapshot's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid snapshot name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-]+ are allowed")]
pub struct SnapshotNameError(String);

impl SnapshotName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotName {
    type Err = SnapshotNameError;

    fn from_str(text: &str) -> Result<Self, SnapshotNameError> {
        match text.parse::<ContainerName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(SnapshotNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
