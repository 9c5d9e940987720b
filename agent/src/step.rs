//! An error that says which step failed, and the word that makes one.

use std::{error::Error, fmt, io};

use protocol::StartError;
use thiserror::Error;

/// A step of the agent's work that failed.
#[derive(Debug, Error)]
#[error("cannot {doing}")]
pub(crate) struct StepError {
    /// What was being done, as the words behind "cannot".
    doing: String,
    source: io::Error,
}

/// Gives a failure its step: `mount(…).doing("mount /proc")?`.
pub(crate) trait Doing<T> {
    /// Names what was being done, as the words behind "cannot".
    fn doing(self, what: impl fmt::Display) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T, StepError> {
        self.map_err(|source| StepError { doing: what.to_string(), source: source.into() })
    }
}

impl From<StepError> for StartError {
    fn from(error: StepError) -> Self {
        Self::Setup { message: describe(&error) }
    }
}

/// An error and its causes in one line.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
