//! Moves a container's first process into its root and furnishes it with `/proc`, `/sys` and `/dev`.

use std::{
    ffi::{CStr, CString},
    fs,
    path::Path,
};

use protocol::{ContainerSpec, Sysctl, Tmpfs};
use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, makedev, mkdir, mknodat, open, openat2, symlink,
    },
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount,
        unmount,
    },
    process::{chdir, pivot_root},
};

use crate::{
    devices::DeviceNodes,
    disks,
    etc::EtcMounts,
    inside,
    mounts::{self, DATA_ONLY},
    step::{Doing, StepError},
    sys, tmpfs,
    tty::Terminal,
    volumes::Volumes,
};

/// What a container's root is made of, prepared outside.
pub(crate) struct Furniture<'a> {
    /// The files in `/etc`.
    pub(crate) etc: EtcMounts,
    /// The folders that are volumes.
    pub(crate) volumes: Volumes,
    /// The machine's devices, if the container has them.
    pub(crate) devices: DeviceNodes,
    /// The terminal, if it has one; it brings `/dev/pts` along.
    pub(crate) terminal: Option<&'a Terminal>,
}

/// What of a container's spec its root depends on.
pub(crate) struct Interior<'a> {
    /// [`ContainerSpec::tmpfs`].
    pub(crate) tmpfs: &'a [Tmpfs],
    /// [`ContainerSpec::sysctls`].
    pub(crate) sysctls: &'a [Sysctl],
    /// [`ContainerSpec::privileged`].
    pub(crate) privileged: bool,
    /// [`ContainerSpec::shm_bytes`].
    pub(crate) shm_bytes: u64,
}

impl<'a> Interior<'a> {
    /// The one of a container.
    pub(crate) fn of(spec: &'a ContainerSpec) -> Self {
        let ContainerSpec { tmpfs, sysctls, privileged, shm_bytes, .. } = spec;
        Self { tmpfs, sysctls, privileged: *privileged, shm_bytes: *shm_bytes }
    }
}

/// Files and folders hidden from containers (moby's `oci.defaultLinuxMaskedPaths`; the one per CPU
/// for thermal throttling is missing since the guest kernel has none).
const MASKED: [&CStr; 12] = [
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/interrupts",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/sys/devices/virtual/powercap",
    c"/sys/firmware",
];

/// What containers may read but not write (moby's `oci.defaultLinuxReadonlyPaths`).
const FROZEN: [&CStr; 5] =
    [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// Device nodes: path, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links: path and target.
const LINKS: [(&str, &str); 5] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Makes the container's root the calling process's own and leaves nothing else in sight. The
/// process is alone in its mount namespace and its umask is 0.
///
/// The root is entered first and furnished then, so that a link in the image, wherever it points,
/// ends inside.
pub(crate) fn enter(interior: &Interior<'_>, furniture: &Furniture<'_>) -> Result<(), StepError> {
    pivot()?;
    // Before /proc: as long as it is missing there are no magic links to stumble over.
    furniture.volumes.attach()?;
    let (system, others): (Vec<_>, Vec<_>) = interior.tmpfs.iter().partition(|one| is_system(one));
    others.into_iter().try_for_each(tmpfs::mount)?;
    furniture.etc.attach()?;
    for folder in ["proc", "sys", "dev"] {
        make_real_folder(folder)?;
    }
    mount_system(if interior.privileged { DATA_ONLY } else { DATA_ONLY | MountFlags::RDONLY })?;
    fill_dev(interior.shm_bytes, furniture)?;
    system.into_iter().try_for_each(tmpfs::mount)?;
    interior.sysctls.iter().try_for_each(set)?;
    if interior.privileged {
        return Ok(());
    }
    FROZEN.iter().try_for_each(|path| mounts::freeze(path))?;
    MASKED.iter().try_for_each(|path| mounts::mask(path))
}

/// Whether it lies in one of the folders that the system's own mounts would hide.
fn is_system(tmpfs: &Tmpfs) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|folder| Path::new(&tmpfs.path).starts_with(folder))
}

/// Makes a kernel setting, from inside the namespaces that it may belong to.
fn set(Sysctl { path, value }: &Sysctl) -> Result<(), StepError> {
    fs::write(format!("/proc/sys/{path}"), value)
        .doing(format_args!("set the sysctl {} to {value}", path.replace('/', ".")))
}

/// Ends all writing to the root itself; what is mounted in it stays as it is.
pub(crate) fn seal() -> Result<(), StepError> {
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, c"").doing("make the root read-only")
}

/// Changes the root and drops the agent's from the namespace. With both names the same,
/// pivot_root(2) stacks the old root over the new one, where it can be taken off.
pub(crate) fn pivot() -> Result<(), StepError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).doing("make the mounts private")?;
    chdir(disks::CONTAINER).doing("enter the container's root")?;
    pivot_root(".", ".").doing("change the root")?;
    unmount(".", UnmountFlags::DETACH).doing("leave the agent's root")?;
    chdir("/").doing("enter the root")
}

/// Makes sure that a mount point is a folder in its own right, so that nothing is mounted where a
/// link of the image points.
fn make_real_folder(name: &str) -> Result<(), StepError> {
    match mkdir(name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat2(CWD, name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
                .map(drop)
                .doing(format_args!("use the image's /{name} as a folder"))
        }
        Err(error) => Err(error).doing(format_args!("make /{name}")),
    }
}

/// `flags` are those of the two that tell about the machine.
fn mount_system(flags: MountFlags) -> Result<(), StepError> {
    mounts::new(c"proc", c"/proc", DATA_ONLY, c"")?;
    mounts::new(c"sysfs", c"/sys", flags, c"")?;
    sys::unshare_cgroup().doing("leave the machine's cgroup namespace")?;
    mounts::new(c"cgroup2", c"/sys/fs/cgroup", flags, c"")
}

fn fill_dev(shm_bytes: u64, furniture: &Furniture<'_>) -> Result<(), StepError> {
    let flags = MountFlags::NOSUID | MountFlags::STRICTATIME;
    mounts::new(c"tmpfs", c"/dev", flags, c"mode=755,size=65536k")?;
    for (path, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor))
            .doing(format_args!("make {path}"))?;
    }
    for (path, target) in LINKS {
        symlink(target, path).doing(format_args!("make {path}"))?;
    }
    for folder in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        mkdir(folder, Mode::from_raw_mode(0o755)).doing(format_args!("make {folder}"))?;
    }
    let shm = CString::new(format!("mode=1777,size={shm_bytes}"))
        .doing("write the options of /dev/shm")?;
    mounts::new(c"tmpfs", c"/dev/shm", DATA_ONLY, &shm)?;
    mounts::new(c"mqueue", c"/dev/mqueue", DATA_ONLY, c"")?;
    furniture.devices.make()?;
    match furniture.terminal {
        Some(terminal) => {
            terminal.attach(c"/dev/pts")?;
            make_console()
        }
        None => {
            let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
            let options = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
            mounts::new(c"devpts", c"/dev/pts", flags, options)
        }
    }
}

/// The container's terminal is its console too: the first of its pseudo-terminals.
fn make_console() -> Result<(), StepError> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    open("/dev/console", flags, Mode::from_raw_mode(0o600)).doing("make /dev/console")?;
    mount_bind("/dev/pts/0", "/dev/console").doing("bind the terminal to /dev/console")
}

/// Enters the working directory, made when it is missing.
pub(crate) fn enter_working_dir(path: &Path) -> rustix::io::Result<()> {
    rustix::process::fchdir(inside::open_or_make_folder(path)?)
}
