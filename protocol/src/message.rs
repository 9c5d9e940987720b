//! The messages of the control connection, and the first words of a stream.
//!
//! Every change raises [`VERSION`](crate::VERSION): postcard does not describe itself.

use serde::{Deserialize, Serialize};

use crate::{
    Adoption, Answer, ContainerSpec, ExecSpec, FileJob, Preparation, Question, WindowSize,
};

/// What the host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Always first: which version the host speaks.
    Hello {
        /// [`VERSION`](crate::VERSION) of the sender.
        version: u32,
    },
    /// Make the container and start its own process as soon as its streams are connected.
    Run(Box<ContainerSpec>),
    /// Send a signal to a process.
    Signal {
        /// Which one.
        id: ProcessId,
        /// The signal's number on x86-64 Linux.
        number: i32,
    },
    /// A process's terminal has a new size.
    Resize {
        /// Whose.
        id: ProcessId,
        /// How large it is now.
        size: WindowSize,
    },
    /// Unmount, sync and switch the machine off.
    PowerOff,
    /// Start one more process in the container, as soon as its streams are connected.
    Exec {
        /// What it will be called from now on: a number that no process of this container has had.
        id: ProcessId,
        /// What it is.
        spec: Box<ExecSpec>,
    },
    /// Do or tell something that concerns the container as a whole.
    Ask {
        /// What the answer will repeat.
        request: RequestId,
        /// What is asked.
        question: Question,
    },
    /// Lay out a container's file system for [`Self::Files`], and start nothing.
    Open(Box<ContainerSpec>),
    /// Do something about the container's files, as soon as the stream for it is connected.
    Files {
        /// What the stream goes by, as if this were a process.
        id: ProcessId,
        /// What is to be done.
        job: Box<FileJob>,
    },
    /// Do what every container of an image begins with, then listen anew, without a connection, and
    /// ring: instead of [`Self::Run`], which comes over the next connection.
    Prepare(Box<Preparation>),
    /// The machine is a copy of one that was saved while its container stood still by
    /// [`Question::Suspend`]: let the container go on as this one, as soon as its streams are connected.
    /// Answered as [`Self::Run`] is.
    Adopt(Box<Adoption>),
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// The answer to [`ToAgent::Hello`].
    Hello {
        /// [`VERSION`](crate::VERSION) of the sender.
        version: u32,
    },
    /// A process runs: its `execve` has succeeded.
    Started {
        /// Which one.
        id: ProcessId,
    },
    /// A process could not be started; when it is the container's own, there is no container.
    StartFailed {
        /// Which one.
        id: ProcessId,
        /// Why not.
        error: StartError,
    },
    /// A process has ended; all it wrote is in its streams, unless it was an exec that the
    /// container's end has ended.
    Exited {
        /// Which one.
        id: ProcessId,
        /// How it ended.
        status: ExitStatus,
        /// Whether memory has run out in the container, up to now.
        out_of_memory: Option<OutOfMemory>,
    },
    /// Something went wrong that does not end the container; for the log.
    Trouble {
        /// One line for a person.
        message: String,
    },
    /// The answer to [`ToAgent::Ask`].
    Answer {
        /// The number that came with the question.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// The answer to [`ToAgent::Open`], if it can be done; otherwise [`Self::StartFailed`] is.
    Opened,
    /// The container has ended, by itself or by [`ToAgent::PowerOff`], and all that was written is on the
    /// disks, so that the machine may as well be killed.
    Synced,
    /// After [`Self::Synced`]: the disks are unmounted too, so that the next machine finds them clean. It is the last
    /// word.
    Settled,
    /// The answer to [`ToAgent::Prepare`], if it can be done; otherwise [`Self::StartFailed`] is. It
    /// is the last word before the host hangs up.
    Prepared,
}

/// A process of the container, by the number the host has given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// The container's own process, the one that [`ToAgent::Run`] starts.
    pub const OWN: Self = Self(0);
}

/// A question and its answer, by a number of the host's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u32);

/// Why a process did not start.
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
    /// A step of the container's or the process's making failed (exit code 125).
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

/// What ran out when the guest's kernel killed a process of the container for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutOfMemory {
    /// The container's limit ([`Limits::memory_bytes`](crate::Limits::memory_bytes)).
    Limit,
    /// The machine's memory.
    Machine,
}

/// The first frame on a connection to [`STREAM_PORT`](crate::STREAM_PORT), from the host; raw
/// bytes follow in the stream's direction until its end is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHello {
    /// Whose stream this is.
    pub id: ProcessId,
    /// Which of its streams.
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
    /// Both ways: frames with a [`FileItem`](crate::FileItem), and the bytes of files.
    Files,
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
