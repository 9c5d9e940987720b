//! The messages of the control connection, and the first words of a stream.
//!
//! Variants and fields are only ever added at the end, and every addition raises
//! [`VERSION`](crate::VERSION): postcard does not describe itself.

use serde::{Deserialize, Serialize};

use crate::{ContainerSpec, WindowSize};

/// What the host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Always first: which version the host speaks.
    Hello {
        /// [`VERSION`](crate::VERSION) of the sender.
        version: u32,
    },
    /// Make the container and start its process as soon as its streams are connected.
    Run(Box<ContainerSpec>),
    /// Send a signal to the container's first process.
    Signal {
        /// The signal's number on x86-64 Linux.
        number: i32,
    },
    /// The terminal has a new size.
    Resize(WindowSize),
    /// Unmount, sync and switch the machine off.
    PowerOff,
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// The answer to [`ToAgent::Hello`].
    Hello {
        /// [`VERSION`](crate::VERSION) of the sender.
        version: u32,
    },
    /// The process runs: its `execve` has succeeded.
    Started,
    /// The container could not be made or its process could not be started.
    StartFailed(StartError),
    /// The container's first process has ended; all it wrote is in the streams.
    Exited(ExitStatus),
    /// Something went wrong that does not end the container; for the log.
    Trouble {
        /// One line for a person.
        message: String,
    },
}

/// Why a container's process did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartError {
    /// The program does not exist (exit code 127).
    NotFound {
        /// The program as it was asked for.
        program: String,
    },
    /// The program exists but cannot be executed (exit code 126).
    NotExecutable {
        /// The program as it was asked for.
        program: String,
        /// What the kernel said.
        reason: String,
    },
    /// The user is not in the image (exit code 125).
    UnknownUser {
        /// The user as it was asked for.
        name: String,
    },
    /// The working directory cannot be made or entered (exit code 125).
    WorkingDirectory {
        /// The directory as it was asked for.
        path: String,
        /// What the kernel said.
        reason: String,
    },
    /// A step of the container's making failed (exit code 125).
    Setup {
        /// What was being done and what the kernel said.
        message: String,
    },
    /// The group is not in the image (exit code 125).
    UnknownGroup {
        /// The group as it was asked for.
        name: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

impl ExitStatus {
    /// The code a shell would show: the program's own, or 128 plus the signal's number.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

/// The first frame on a connection to [`STREAM_PORT`](crate::STREAM_PORT), from the host; raw
/// bytes follow in the stream's direction until its end is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHello {
    /// Which stream of the container's first process this is.
    pub kind: StreamKind,
}

/// A stdio stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StreamKind {
    /// Host to guest.
    Stdin,
    /// Guest to host.
    Stdout,
    /// Guest to host.
    Stderr,
    /// Both ways: the terminal.
    Terminal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(ExitStatus::Code(7).shell_code(), 7);
        assert_eq!(ExitStatus::Signal(9).shell_code(), 137);
        assert_eq!(ExitStatus::Signal(255).shell_code(), 255);
    }
}
