//! What the agent needs to know to make one container and start its process.

use serde::{Deserialize, Serialize};

/// One container: its disks, its place in the system and its first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The read-only EROFS disk with the image.
    pub image_disk: Device,
    /// The writable ext4 disk that takes what the container writes.
    pub scratch_disk: Device,
    /// Whether the root file system refuses writes (`--read-only`).
    pub read_only: bool,
    /// The host name, in the container's own UTS namespace.
    pub hostname: String,
    /// Files that are laid over the image's own.
    pub etc: EtcFiles,
    /// The size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// The host's wall clock when the message was sent.
    pub wall_clock: WallClock,
    /// Bytes from the host's random source, credited to the guest kernel's pool before the
    /// process starts.
    pub entropy: [u8; 32],
    /// CPU time per period of 100 ms, in microseconds (`cpu.max`); none is all of the vCPUs.
    pub cpu_quota_us: Option<u64>,
    /// The first process.
    pub process: ProcessSpec,
}

/// A disk of the machine, by its place among the virtio block devices: 0 is `/dev/vda`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The place, at most 25.
    pub index: u8,
}

/// The contents of the files in `/etc` that describe the container itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcFiles {
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// A process in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments, the program found through `PATH` of [`Self::env`] when it holds no
    /// slash. Bytes, since Linux arguments need not be UTF-8.
    pub args: Vec<Vec<u8>>,
    /// The environment as `KEY=VALUE`, whole: nothing but `HOME` is added, and that only when
    /// missing, from the user's entry in the image's `/etc/passwd`.
    pub env: Vec<Vec<u8>>,
    /// The working directory, made when it is missing.
    pub working_dir: String,
    /// Who it runs as.
    pub user: User,
    /// Whether it has a terminal, and of what size; without one it has three pipes.
    pub terminal: Option<WindowSize>,
    /// Whether a [`StreamKind::Stdin`](crate::StreamKind) stream will be connected; otherwise its
    /// standard input is empty. With a terminal: whether the terminal takes input.
    pub stdin: bool,
    /// Resource limits; those not named stay as the guest kernel sets them.
    pub limits: Vec<ResourceLimit>,
}

/// A user as `--user` and an image's `User` name it; looked up in the image's own files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name or number; empty is root.
    pub user: String,
    /// Name or number; none is the user's own group with its supplementary ones.
    pub group: Option<String>,
}

/// One resource limit, as `setrlimit` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// The `RLIMIT_…` number on x86-64 Linux.
    pub resource: u32,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// A moment of wall-clock time since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClock {
    /// Whole seconds.
    pub seconds: u64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}
