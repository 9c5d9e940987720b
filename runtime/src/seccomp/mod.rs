//! A seccomp profile in Docker's JSON, as a filter for the guest's kernel.

mod compile;
mod profile;
mod syscalls;

use protocol::{Capabilities, FilterInstruction};
use thiserror::Error;

/// Why a profile is no filter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SeccompError {
    /// It is no JSON, or not of that form.
    #[error("decoding seccomp profile failed: {0}")]
    Json(String),
    /// An action that a filter cannot have.
    #[error("invalid action '{0}' in seccomp profile")]
    Action(String),
    /// A comparison that there is not.
    #[error("invalid operator '{0}' in seccomp profile")]
    Operator(String),
    /// A system call has six arguments.
    #[error("invalid argument index {0} in seccomp profile")]
    Argument(u32),
    /// The kernel takes 4,096 instructions, and no jump is longer than 255.
    #[error("the seccomp profile has too many rules")]
    TooLong,
}

/// Compiles the profile in `text` for a container whose root has `capabilities`.
pub(crate) fn compile(
    text: &str,
    capabilities: Capabilities,
) -> Result<Vec<FilterInstruction>, SeccompError> {
    compile::compile(&profile::read(text, capabilities)?)
}
