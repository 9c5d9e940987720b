//! What a machine is made of: plain data and open files, no paths.

use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};

use serde::{Deserialize, Serialize};

use crate::order::OrderReceiver;

/// KVM's device file.
pub const KVM_DEVICE: &str = "/dev/kvm";
/// The smallest machine that boots, in MiB.
pub const MIN_MEMORY_MIB: u32 = 64;
/// The largest machine, in MiB: 1 TiB.
pub const MAX_MEMORY_MIB: u32 = 1 << 20;
/// The most vCPUs a machine can have.
pub const MAX_VCPUS: u8 = 32;

/// Everything a machine needs, open already: it opens no file itself but `/dev/kvm`.
#[derive(Debug)]
pub struct MachineConfig {
    /// The guest's memory, in MiB.
    pub memory_mib: u32,
    /// The number of vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// Where it begins.
    pub start: Start,
    /// When and where it is saved. Nothing is saved of a machine that is traced.
    pub save: Option<Save>,
    /// Disks in the guest's order: vda, vdb and so on.
    pub disks: Vec<DiskConfig>,
    /// How fast they are at most, all together.
    pub disk_limits: DiskLimits,
    /// Sockets between guest and host.
    pub vsock: Option<VsockConfig>,
    /// A network interface.
    pub net: Option<NetConfig>,
    /// How many more there can be: devices that are not there until they are
    /// [plugged](crate::order::Order::Plug).
    pub spare_interfaces: u8,
    /// What is in the first of them when the guest begins, or when it goes on after it was saved.
    pub plugged: Vec<NetConfig>,
    /// What is to be done while the guest runs.
    pub orders: Option<OrderReceiver>,
    /// Where [`crate::event::Event`]s are written to.
    pub events: File,
    /// Send the console as it comes, and let the kernel speak.
    pub trace: bool,
}

impl MachineConfig {
    /// The number among the machine's virtio-mmio devices that an interface has: 0 is its own, the spare
    /// ones follow.
    #[must_use]
    pub fn device_of(&self, interface: u8) -> usize {
        let before = self.disks.len() + usize::from(self.vsock.is_some());
        match interface {
            0 => before,
            // Behind the entropy device and the balloon.
            spare => before + usize::from(self.net.is_some()) + 1 + usize::from(spare),
        }
    }
}

/// How a machine comes to life.
#[derive(Debug)]
pub enum Start {
    /// It boots a kernel.
    Boot(BootFiles),
    /// It goes on where another was saved, which had the same memory, vCPUs and devices.
    Restore {
        /// What was saved.
        files: SnapshotFiles,
        /// What of the memory the guest is known to touch soon.
        working_set: WorkingSet,
    },
}

/// How much of the memory in which a saved machine had nothing comes to its copies in small pages, in bytes from the
/// lowest address on: a guest takes that first, and little of it during its start.
pub const SMALL_FRESH_BYTES: u64 = 8 << 20;

/// The pieces of a saved machine's memory that its copies touch before their work begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkingSet {
    /// What they write, and so is copied ahead.
    pub written: Vec<FileRange>,
    /// What they only read, and so is mapped ahead.
    pub read: Vec<FileRange>,
}

/// A piece of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRange {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// A file with a kernel.
#[derive(Debug)]
pub enum KernelFile {
    /// An ELF `vmlinux` or a bzImage, which is read.
    Plain(File),
    /// What [`prepare_kernel`](crate::prepare_kernel) has made for machines with this memory; its code is mapped, so
    /// that the file may not change or become shorter as long as the machine lives. One that is to be saved reads
    /// it as any other.
    Prepared(File),
}

/// What a kernel needs to boot.
#[derive(Debug)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: KernelFile,
    /// What the kernel unpacks into its first root.
    pub initramfs: Option<File>,
    /// Words appended to the default command line.
    pub command_line: String,
}

/// A machine that boots is to be saved.
#[derive(Debug)]
pub struct Save {
    /// Where it is written to.
    pub files: SnapshotFiles,
    /// At which ring of the agent's.
    pub ring: Ring,
}

/// The agent rings when it listens and has no connection open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// When it is ready. The machine goes on once it is saved.
    First,
    /// When it has prepared what it was told to after the first. The machine is at its end once it is
    /// saved, so that its writable disk stays as it was then.
    Second,
}

/// The files of a saved machine.
#[derive(Debug)]
pub struct SnapshotFiles {
    /// The state of processors and devices.
    pub state: File,
    /// The memory.
    pub memory: File,
    /// Of one that was saved as what differs from another: the files beneath the memory, the youngest first.
    pub beneath: Vec<File>,
}

impl SnapshotFiles {
    /// Those of one that lies over no other.
    #[must_use]
    pub fn new(state: File, memory: File) -> Self {
        Self { state, memory, beneath: Vec::new() }
    }

    /// The files of its memory, the youngest first.
    pub fn memories(&self) -> impl Iterator<Item = &File> {
        std::iter::once(&self.memory).chain(&self.beneath)
    }

    /// The same, for good.
    #[must_use]
    pub fn into_memories(self) -> Vec<File> {
        std::iter::once(self.memory).chain(self.beneath).collect()
    }
}

/// How fast disks are at most; none is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// The bytes read in each second.
    pub read_bytes: Option<u64>,
    /// The bytes written in each second.
    pub write_bytes: Option<u64>,
    /// The requests to read in each second.
    pub read_requests: Option<u64>,
    /// The requests to write in each second.
    pub write_requests: Option<u64>,
}

/// A disk.
#[derive(Debug)]
pub struct DiskConfig {
    /// Where its bytes are.
    pub backing: DiskBacking,
    /// What the guest reads as its serial number: at most 20 bytes of ASCII.
    pub id: String,
}

/// Where a disk's bytes are.
#[derive(Debug)]
pub enum DiskBacking {
    /// Pieces of files.
    ReadOnly {
        /// The pieces, one after the other.
        extents: Vec<DiskExtent>,
        /// The size of the disk, in bytes: what lies behind the pieces cannot be read.
        capacity_bytes: u64,
    },
    /// A base that stays as it is, and an overlay file with what the guest has written.
    CopyOnWrite {
        /// What is read where nothing has been written; none reads as zeros.
        base: Option<File>,
        /// The bytes of `base` that count; zeros follow.
        base_bytes: u64,
        /// An overlay made by an earlier machine, or an empty file.
        overlay: File,
        /// The bytes that there are: what lies behind can be neither read nor written.
        usable_bytes: u64,
        /// The size of the disk as the guest sees it, in bytes; no less.
        capacity_bytes: u64,
    },
}

impl DiskBacking {
    /// A disk of these pieces and no more.
    #[must_use]
    pub fn read_only(extents: Vec<DiskExtent>) -> Self {
        let lengths = extents.iter().map(|extent| extent.length);
        let capacity_bytes = lengths.fold(0, u64::saturating_add);
        Self::ReadOnly { extents, capacity_bytes }
    }
}

/// A piece of a file that is part of a disk.
#[derive(Debug)]
pub struct DiskExtent {
    /// The file.
    pub file: File,
    /// Where the piece begins, a multiple of 4096.
    pub offset: u64,
    /// How long it is, a multiple of 4096.
    pub length: u64,
}

/// The vsock device.
#[derive(Debug)]
pub struct VsockConfig {
    /// The guest's context id, 3 or more.
    pub cid: u64,
    /// Where programs of the host connect to reach the guest.
    pub listener: UnixListener,
}

/// The network device.
#[derive(Debug, Default)]
pub struct NetConfig {
    /// What is behind it.
    pub backend: NetBackend,
    /// What moves the frames of a tap without limits: with what [`crate::open_vhost`] gave the host's
    /// kernel does, otherwise, or where that does not work, the device itself.
    pub vhost: Option<File>,
    /// How fast it is at most.
    pub limits: NetLimits,
}

/// What is behind a network device.
#[derive(Debug, Default)]
pub enum NetBackend {
    /// Nothing: the interface leads nowhere.
    #[default]
    Nothing,
    /// A tap that [`crate::open_tap`] gave.
    Tap(File),
    /// A program at the other end of a socket, each frame behind its length in four bytes, the highest
    /// first, as passt speaks (passt(1), `--fd`). It computes no checksums and cuts nothing in pieces:
    /// frames that ask for it are dropped, so the guest must not be told to ask.
    Stream(UnixStream),
}

/// How fast a network interface is at most; none is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetLimits {
    /// The bytes that the guest gets in each second, Ethernet headers among them.
    pub received_bytes: Option<u64>,
    /// The bytes that the guest sends in each second.
    pub sent_bytes: Option<u64>,
}
