//! What can go wrong with the store itself.

use std::io;
use std::path::PathBuf;

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A newer version of this program wrote it.
    #[error("image store {} has version {found}, this program knows {known}", path.display())]
    Newer {
        /// The store's folder.
        path: PathBuf,
        /// The store's version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// A file of the store does not have its format.
    #[error("{} is damaged", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            StoreError::Newer { .. } => {
                Some("update hyperrun, or use another store with `--root`".into())
            }
            StoreError::Io { source, .. } => space_hint(source),
            StoreError::Corrupt { .. } => {
                Some("load the image again; if that does not help, remove the file first".into())
            }
        }
    }
}

/// What to do when a file that somebody asked for cannot be written.
pub(crate) fn output_hint(error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space, or write to another disk".into())
        }
        _ => None,
    }
}

/// What to do when a disk is full or closed to us.
pub(crate) fn space_hint(error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space, or keep images elsewhere with `--root`".into())
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("use another store with `--root`".into()),
        io::ErrorKind::PermissionDenied => {
            Some("run as the store's owner, or use another store with `--root`".into())
        }
        _ => None,
    }
}
