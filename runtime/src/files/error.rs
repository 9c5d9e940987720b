//! Why files were not copied, compared or committed, in Docker's words where it has some.

use std::io;
use std::path::PathBuf;

use images::TarError;
use protocol::FileFailure;
use thiserror::Error;
use trees::StreamError;

/// Why files were not copied, compared or committed.
#[derive(Debug, Error)]
pub enum FilesError {
    /// Nothing lies at a path of the container.
    #[error("could not find the file {path} in container {name}")]
    NotFound {
        /// The path, as it was looked for.
        path: String,
        /// The container's name.
        name: String,
    },
    /// The folder that something is to be copied to is not there.
    #[error("invalid output path: directory {path:?} does not exist")]
    NoOutput {
        /// The folder.
        path: String,
    },
    /// The source on this machine cannot be used.
    #[error("cannot copy {}", path.display())]
    Source {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: FileFailure,
    },
    /// The destination on this machine cannot be used.
    #[error("cannot copy to {}", path.display())]
    Destination {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: FileFailure,
    },
    /// What the container's side has refused.
    #[error("container {name}")]
    Container {
        /// The container's name.
        name: String,
        /// Why.
        source: FileFailure,
    },
    /// A device of the container, which has no business on this machine.
    #[error("cannot copy {path} out of container {name}: it is a device")]
    Device {
        /// The path.
        path: String,
        /// The container's name.
        name: String,
    },
    /// A container sends more than its disks can hold.
    #[error("container {name} sends more than it can hold")]
    TooMuch {
        /// Its name.
        name: String,
    },
    /// The stream has broken off.
    #[error("the connection to the files of container {name} was lost")]
    Lost {
        /// The container's name.
        name: String,
        /// How.
        source: StreamError,
    },
    /// The archive on standard input.
    #[error("cannot read the archive")]
    Archive(#[source] TarError),
    /// The same, when not even its first bytes could be read.
    #[error("cannot read the archive")]
    Input(#[source] io::Error),
    /// Somebody who is told of changes cannot pass them on.
    #[error("cannot show the changes")]
    Told(#[source] io::Error),
    /// The archive on standard output.
    #[error("cannot write the archive")]
    Output(#[source] io::Error),
}

impl FilesError {
    /// What a stream of the container's has ended with.
    pub(super) fn of_stream(name: &str, error: StreamError) -> Self {
        let name = name.to_owned();
        match error {
            StreamError::Failed(FileFailure::NotFound { path }) => {
                Self::NotFound { path: trees::shown(&path), name }
            }
            StreamError::Failed(source) => Self::Container { name, source },
            source => Self::Lost { name, source },
        }
    }

    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Device { .. } => Some("`-` as destination writes it to an archive".to_owned()),
            Self::Container { source: FileFailure::ReadOnly, .. } => {
                Some("it was created with --read-only; its volumes can be written".to_owned())
            }
            Self::Lost { .. } => Some("has it ended meanwhile?".to_owned()),
            _ => None,
        }
    }
}
