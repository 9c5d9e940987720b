//! Why a snapshot is not made, not found, or of no use here.

use std::io;

use images::TarError;
use thiserror::Error;

/// Why a snapshot is not made, not found, or of no use here.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// There is none of this name.
    #[error("no such snapshot: {name}")]
    Unknown {
        /// As it was typed.
        name: String,
    },
    /// Another one has this name.
    #[error("the snapshot name \"{name}\" is already in use")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// Somebody else is making one of this name.
    #[error("the snapshot \"{name}\" is just being made")]
    Busy {
        /// The name.
        name: String,
    },
    /// A newer version has written it.
    #[error("snapshot {name} was written by a newer hyperrun (version {version})")]
    Newer {
        /// Its name.
        name: String,
        /// The version of its document.
        version: u32,
    },
    /// It is not as it was made.
    #[error("snapshot {name} is damaged: {what}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// It was made where things are other than here.
    #[error("snapshot {name} does not fit this host: {what}")]
    Unfit {
        /// Its name.
        name: String,
        /// What differs.
        what: String,
    },
    /// The container went on from it, but not far.
    #[error("snapshot {name} cannot be restored: {reason}")]
    NotRestored {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// What is imported is no exported snapshot.
    #[error("this is no exported snapshot: {what}")]
    NotExported {
        /// What is wrong.
        what: String,
    },
    /// What is imported was changed, or cut off, on its way.
    #[error("the exported snapshot is damaged: {what}")]
    DamagedExport {
        /// What is wrong.
        what: String,
    },
    /// What is imported cannot be read.
    #[error("cannot read the exported snapshot")]
    Read(#[from] TarError),
    /// What is exported cannot be written.
    #[error("cannot write the exported snapshot")]
    Write(#[source] io::Error),
}

impl SnapshotError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some("`hyperrun snapshot ls` lists them".to_owned()),
            Self::NameInUse { .. } => {
                Some("choose another name, or remove that snapshot".to_owned())
            }
            Self::Busy { .. } => Some("wait until that is done, or choose another name".to_owned()),
            Self::Unfit { .. } => {
                Some("restore it where it was made, or on a host like that one".to_owned())
            }
            Self::DamagedExport { .. } => Some("export it, or copy the file, once more".to_owned()),
            Self::Damaged { .. } => Some("`hyperrun snapshot rm` removes it".to_owned()),
            Self::Newer { .. }
            | Self::NotRestored { .. }
            | Self::NotExported { .. }
            | Self::Read(_)
            | Self::Write(_) => None,
        }
    }
}
