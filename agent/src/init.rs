//! Makes a system out of an initramfs: a root of its own, the kernel's file systems, a loopback.

use std::{fs, io};

use rustix::{
    fs::{Mode, mkdir},
    mount::{MountFlags, mount_move},
    process::{chdir, chroot},
};

use crate::{
    mounts::{self, NOTHING_SPECIAL},
    network,
    step::{Doing, StepError},
};

/// Does all that a container of any kind needs once.
pub(crate) fn take_over() -> Result<(), StepError> {
    move_to_tmpfs()?;
    mounts::new(c"proc", c"/proc", NOTHING_SPECIAL, c"")?;
    mounts::new(c"sysfs", c"/sys", NOTHING_SPECIAL, c"")?;
    mounts::new(c"devtmpfs", c"/dev", MountFlags::NOEXEC | MountFlags::NOSUID, c"mode=0755")?;
    mounts::new(c"cgroup2", c"/sys/fs/cgroup", NOTHING_SPECIAL, c"nsdelegate")?;
    rest_when_idle()?;
    network::prepare()
}

/// Keeps the kernel from looking for fragmented memory every half a second: each look wakes an idle
/// machine twice, and memory is compacted all the same when a huge page is asked for
/// (`compaction_proactiveness`, Documentation/admin-guide/sysctl/vm.rst).
fn rest_when_idle() -> Result<(), StepError> {
    const SETTING: &str = "/proc/sys/vm/compaction_proactiveness";
    match fs::write(SETTING, "0") {
        // A kernel that never does.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.doing(format_args!("write {SETTING}")),
    }
}

/// Moves onto a tmpfs of the agent's own. The initramfs cannot be pivoted away from
/// (`pivot_root(2)`: EINVAL for a rootfs), and containers do pivot; so a mount goes over it first.
fn move_to_tmpfs() -> Result<(), StepError> {
    const ROOT: &str = "/root";
    match mkdir(ROOT, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error).doing("make a folder in the initramfs"),
    }
    mounts::new(c"tmpfs", c"/root", MountFlags::NODEV | MountFlags::NOSUID, c"mode=0755,size=32m")?;
    chdir(ROOT).doing("enter the agent's tmpfs")?;
    mount_move(".", "/").doing("move the agent's tmpfs onto the root")?;
    chroot(".").doing("make the agent's tmpfs the root")?;
    for folder in ["/proc", "/sys", "/dev", "/etc"] {
        mkdir(folder, Mode::from_raw_mode(0o755)).doing(format_args!("make {folder}"))?;
    }
    Ok(())
}
