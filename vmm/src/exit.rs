//! How a machine ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a machine is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// The guest turned itself off.
    PowerOff,
    /// The guest asked for a restart.
    Reboot,
    /// The guest's kernel panicked.
    Panic {
        /// The last lines it wrote to its console.
        console_tail: String,
    },
    /// The guest's processor could not go on (on x86 a triple fault).
    TripleFault,
    /// The guest stopped all its processors for good.
    Halt,
    /// KVM could not enter the guest.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
    },
    /// KVM or the machine could not go on.
    InternalError {
        /// What happened.
        message: String,
    },
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reboot => f.write_str("the guest rebooted"),
            Self::Panic { .. } => f.write_str("the guest's kernel panicked"),
            Self::TripleFault => f.write_str("the guest's processor triple-faulted"),
            Self::Halt => f.write_str("the guest halted"),
            Self::FailEntry { reason } => {
                write!(f, "the processor refused to enter the guest (reason {reason:#x})")
            }
            Self::InternalError { message } => write!(f, "the machine failed: {message}"),
        }
    }
}
