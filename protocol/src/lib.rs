//! The language between host and guest: what is said on the control connection and how it is framed.
//!
//! The agent listens, the host connects; there is one control connection ([`CONTROL_PORT`]) and one
//! connection per stdio stream ([`STREAM_PORT`]), all over virtio-vsock. Knows no sockets: every
//! function reads from a `Read` or writes to a `Write`. docs/protocol.md tells the whole story.

#![forbid(unsafe_code)]

mod files;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod message;
mod question;
mod spec;

pub use files::{
    ChangeKind, FileChange, FileEntry, FileFailure, FileItem, FileJob, FileKind, Links, Owner,
    Processes, SourceName,
};
pub use frame::{FrameError, MAX_FRAME_BYTES, read, write};
pub use message::{
    ExitStatus, FromAgent, OutOfMemory, ProcessId, RequestId, StartError, StreamHello, StreamKind,
    ToAgent,
};
pub use question::{
    Answer, MAX_KERNEL_LOG_BYTES, MAX_TOP_COMMAND_BYTES, MAX_TOP_ROWS, MmioDevice, Question, Stats,
    TopRow,
};
pub use spec::{
    Adoption, Capabilities, ContainerSpec, Device, EtcFiles, ExecSpec, FilterInstruction, HOOKS,
    Interface, Interface6, Limits, MountFlags, Preparation, ProcessSpec, ResourceLimit, Sysctl,
    Tmpfs, User, WallClock, WindowSize,
};

/// The version of everything in this crate. Both sides say theirs first and must agree.
pub const VERSION: u32 = 13;

/// The vsock port on which the agent takes the one control connection.
pub const CONTROL_PORT: u32 = 1024;

/// The vsock port on which the agent takes a connection for each stdio stream.
pub const STREAM_PORT: u32 = 1025;

/// The I/O port of the machine's power device, written 32 bits wide: `code << 8 | cause`.
pub const POWER_PORT: u16 = 0x0cf0;

/// The cause written to [`POWER_PORT`] when the agent listens: the readiness doorbell.
pub const POWER_AGENT_READY: u32 = 5;
