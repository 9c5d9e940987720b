//! What the agent needs to know to make one container and start its process.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::MmioDevice;

/// One container: its disks, its place in the system and its own process.
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
    /// The NIS domain name there (`--domainname`); empty leaves the kernel's.
    pub domain_name: String,
    /// Files that are laid over the image's own.
    pub etc: EtcFiles,
    /// The size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// Memory file systems that are mounted in the root, in order.
    pub tmpfs: Vec<Tmpfs>,
    /// Folders that are volumes: they lie on the scratch disk beside the root's own changes, and
    /// begin with what the image has there.
    pub volumes: Vec<String>,
    /// Kernel settings, in order.
    pub sysctls: Vec<Sysctl>,
    /// Whether nothing is hidden or read-only in `/proc` and `/sys`, and every device of the
    /// machine is there to be opened (`--privileged`). Capabilities are each process's own.
    pub privileged: bool,
    /// Whether the container's PID 1 is the agent's own small init, which starts the process,
    /// passes signals on and collects the dead (`--init`).
    pub init: bool,
    /// The host's wall clock when the message was sent.
    pub wall_clock: WallClock,
    /// Bytes from the host's random source, credited to the guest kernel's pool before the
    /// process starts.
    pub entropy: [u8; 32],
    /// What all its processes together may use.
    pub limits: Limits,
    /// Its ways to networks, each with its device; without one it has the loopback alone. The first device
    /// is the one that every machine has, the others are plugged in.
    #[serde(default)]
    pub networks: Vec<(MmioDevice, Interface)>,
    /// Its own process.
    pub process: ProcessSpec,
}

/// What all containers of an image have in common, and nothing of any one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// [`ContainerSpec::image_disk`].
    pub image_disk: Device,
    /// [`ContainerSpec::scratch_disk`].
    pub scratch_disk: Device,
    /// [`ContainerSpec::shm_bytes`].
    pub shm_bytes: u64,
    /// The image's own program, as it would be found through `PATH`; empty if it has none.
    pub program: Vec<u8>,
    /// The `PATH` of the image.
    pub path: Vec<u8>,
}

/// What a container that goes on in a copy of its machine is to be from now on. All else stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// [`ContainerSpec::wall_clock`].
    pub wall_clock: WallClock,
    /// [`ContainerSpec::entropy`].
    pub entropy: [u8; 32],
    /// [`ContainerSpec::hostname`].
    pub hostname: String,
    /// [`ContainerSpec::etc`].
    pub etc: EtcFiles,
    /// [`ContainerSpec::networks`]; of those that it has had nothing is left.
    pub networks: Vec<(MmioDevice, Interface)>,
    /// How each program in [`HOOKS`] is run once the container goes on, but for its arguments.
    pub hook: ProcessSpec,
}

/// The container's folder of programs that are run when it goes on in a copy.
pub const HOOKS: &str = "/etc/hyperrun/restore.d";

/// A container's network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// How many of the address's bits are the network's, 0 to 32.
    pub prefix_bits: u8,
    /// Where all that is in none of the networks goes, unless an interface before this one has such a
    /// gateway; none is nowhere.
    pub gateway: Option<Ipv4Addr>,
    /// The same of IPv6; without it the interface has none.
    pub six: Option<Interface6>,
    /// The longest packet, in bytes.
    pub mtu: u16,
    /// Whether what is behind it computes checksums and cuts long packets in pieces.
    pub offloads: bool,
}

/// What an interface has of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface6 {
    /// Its address.
    pub address: Ipv6Addr,
    /// How many of the address's bits are the network's, 0 to 128.
    pub prefix_bits: u8,
    /// As the one above.
    pub gateway: Option<Ipv6Addr>,
}

/// What a container may use, as its cgroup has it. None is the kernel's default: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time per period of 100 ms, in microseconds (`cpu.max`); none is all of the vCPUs.
    pub cpu_quota_us: Option<u64>,
    /// The share of CPU time beside others, 1 to 10,000 (`cpu.weight`).
    pub cpu_weight: Option<u32>,
    /// Bytes of memory (`memory.max`); none is all of the machine's.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory that are reclaimed from last (`memory.low`).
    pub memory_reserved_bytes: Option<u64>,
    /// Processes and threads (`pids.max`).
    pub pids: Option<u64>,
}

/// A memory file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where it is mounted, from the root; made when it is missing.
    pub path: String,
    /// What may be done in it.
    pub flags: MountFlags,
    /// Its size in bytes; none is half of the machine's memory.
    pub size_bytes: Option<u64>,
    /// The permissions of its root.
    pub mode: u32,
    /// Who owns its root, as user and group numbers.
    pub owner: (u32, u32),
}

/// What may not be done in a mounted file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags {
    /// Nothing may be written.
    pub read_only: bool,
    /// Nothing may be executed.
    pub no_exec: bool,
    /// Set-user-ID bits and file capabilities mean nothing.
    pub no_suid: bool,
    /// No device may be opened.
    pub no_dev: bool,
}

/// A kernel setting below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// The path below `/proc/sys`, as `net/ipv4/ip_forward`: letters, digits, `_`, `-`, `.` and
    /// slashes, no component being `.` or `..`.
    pub path: String,
    /// What is written there.
    pub value: String,
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
    /// Groups beside those of [`Self::user`], names or numbers (`--group-add`).
    pub more_groups: Vec<String>,
    /// What root may do at most. Other users have nothing of it, but programs that give power
    /// (set-user-ID, file capabilities) can give this much.
    pub capabilities: Capabilities,
    /// Whether no program gives power, set-user-ID or not (`no_new_privs`).
    pub no_new_privileges: bool,
    /// How ready the kernel is to kill it when memory runs out (`oom_score_adj`, -1000 to 1000).
    pub oom_score_adjustment: Option<i16>,
    /// A seccomp filter in classic BPF (seccomp(2)); empty is none.
    pub seccomp: Vec<FilterInstruction>,
}

/// One more process in a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The process, as whole as the container's own: nothing comes from that one.
    pub process: ProcessSpec,
    /// Whether no stream will be connected: its standard input is empty, and what it writes is
    /// lost (`exec -d`).
    pub detached: bool,
}

/// A set of capabilities: bit n is the one with number n (linux/capability.h). Those that the
/// guest's kernel does not know mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The bits.
    pub bits: u64,
}

impl Capabilities {
    /// Every capability there is, was or will be.
    pub const ALL: Self = Self { bits: u64::MAX };
}

/// An instruction of classic BPF (`struct sock_filter`, linux/filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterInstruction {
    /// What is done.
    pub code: u16,
    /// How many instructions are skipped when a comparison is true.
    pub if_true: u8,
    /// And when it is false.
    pub if_false: u8,
    /// The operand.
    pub operand: u32,
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
