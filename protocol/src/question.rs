//! What the host may ask about the container as a whole, and what the agent answers.

use serde::{Deserialize, Serialize};

use crate::{Interface, Limits};

/// What the host asks of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Stop all its processes where they are; answered when they stand still.
    Pause,
    /// Let them go on.
    Unpause,
    /// Which processes does it have?
    Top,
    /// What does it use?
    Stats,
    /// Keep to these limits from now on: all of them, not only those that are new.
    Update(Limits),
    /// What has its kernel said?
    KernelLog,
    /// Take over the interface that was plugged in.
    Connect {
        /// Which device it is.
        device: MmioDevice,
        /// How it is set up.
        interface: Interface,
    },
    /// Let go of an interface that is to be unplugged.
    Disconnect {
        /// Which device it is.
        device: MmioDevice,
    },
    /// Make its `/etc/resolv.conf` another one, unless somebody has changed it: it has come to a network or
    /// gone from one.
    Resolve {
        /// What was written there last.
        before: String,
        /// What is to be there.
        after: String,
    },
    /// Stop all its processes where they are, unless they are stopped already, so that the machine can be
    /// saved; answered when they stand still. In a copy of the machine the connection is gone then, and
    /// [`ToAgent::Adopt`](crate::ToAgent::Adopt) comes over the next one.
    Suspend,
    /// Let those go on that [`Self::Suspend`] has stopped.
    Resume,
}

/// A device of the machine, by its place among all its virtio-mmio devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MmioDevice {
    /// The place.
    pub index: u8,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is not, since no container runs, or the kernel refused.
    Failed {
        /// What was being done and what stood in the way.
        message: String,
    },
    /// To [`Question::Top`]: the processes by their numbers, no more than [`MAX_TOP_ROWS`].
    Top(Vec<TopRow>),
    /// To [`Question::Stats`].
    Stats(Stats),
    /// To [`Question::KernelLog`]: lines as `dmesg` shows them, no more than [`MAX_KERNEL_LOG_BYTES`].
    KernelLog(Vec<u8>),
}

/// The most bytes an [`Answer::KernelLog`] has.
pub const MAX_KERNEL_LOG_BYTES: usize = 1 << 20;

/// The most processes an [`Answer::Top`] tells of.
pub const MAX_TOP_ROWS: usize = 4096;

/// The most bytes of a command line in a [`TopRow`].
pub const MAX_TOP_COMMAND_BYTES: usize = 1024;

/// A process as `ps` shows it. All of it is the container's word: hostile text, any numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRow {
    /// Its number inside the container.
    pub pid: u32,
    /// Its parent's, or 0 for a parent outside of the container.
    pub parent: u32,
    /// The number of its effective user.
    pub uid: u32,
    /// What the container's `/etc/passwd` calls that user.
    pub user: Option<String>,
    /// The letter of its state, as in proc_pid_stat(5).
    pub state: char,
    /// The number of its controlling pseudo-terminal.
    pub terminal: Option<u32>,
    /// How long ago it began, in milliseconds.
    pub age_ms: u64,
    /// CPU time it has used, in milliseconds.
    pub cpu_ms: u64,
    /// Its virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Its resident memory in bytes.
    pub resident_bytes: u64,
    /// Its threads.
    pub threads: u32,
    /// Its arguments with spaces between them; `[name]` where it has none. Cut to
    /// [`MAX_TOP_COMMAND_BYTES`].
    pub command: Vec<u8>,
}

/// What a container uses and has used. Numbers of what the kernel does not count are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// When this was read, in microseconds of the guest's monotonic clock.
    pub clock_us: u64,
    /// CPU time in microseconds (`cpu.stat`, `usage_usec`).
    pub cpu_us: u64,
    /// The part of it in user mode.
    pub cpu_user_us: u64,
    /// The part of it in the kernel.
    pub cpu_system_us: u64,
    /// The time it had to wait for its quota (`throttled_usec`).
    pub cpu_throttled_us: u64,
    /// The machine's CPUs.
    pub cpus: u32,
    /// Memory in use, page cache included (`memory.current`).
    pub memory_bytes: u64,
    /// The part of it that is page cache nobody has used lately (`inactive_file`): what Docker
    /// leaves out of the usage it shows.
    pub memory_inactive_file_bytes: u64,
    /// The most memory that was ever in use (`memory.peak`).
    pub memory_peak_bytes: u64,
    /// The limit on memory, or all of the machine's where there is none or a larger one.
    pub memory_limit_bytes: u64,
    /// Processes and threads (`pids.current`).
    pub pids: u64,
    /// The limit on them.
    pub pids_limit: Option<u64>,
    /// Bytes read from the disks (`io.stat`).
    pub block_read_bytes: u64,
    /// Bytes written to them.
    pub block_written_bytes: u64,
    /// Processes killed for want of memory (`memory.events`, `oom_kill`).
    pub out_of_memory_kills: u64,
    /// Bytes received by all interfaces but the loopback (`/proc/net/dev`).
    pub net_received_bytes: u64,
    /// Bytes sent by them.
    pub net_sent_bytes: u64,
}
