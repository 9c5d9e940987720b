//! The few ways in which the agent mounts things.

use std::ffi::CStr;

use rustix::{
    io::Errno,
    mount::{MountFlags, mount, mount_bind, mount_remount},
};

use crate::step::{Doing, StepError};

/// The flags of a mount with everything allowed.
pub(crate) const NOTHING_SPECIAL: MountFlags = MountFlags::empty();

/// The flags of a mount that holds data only.
pub(crate) const DATA_ONLY: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Mounts a file system that has no device; the source says so with the file system's name.
pub(crate) fn new(
    kind: &CStr,
    target: &CStr,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), StepError> {
    from(kind, kind, target, flags, options)
}

/// Mounts a file system from a device, or whatever `source` means to it.
pub(crate) fn from(
    source: &CStr,
    kind: &CStr,
    target: &CStr,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), StepError> {
    mount(source, target, kind, flags, options).doing(format_args!(
        "mount {} on {}",
        kind.to_string_lossy(),
        target.to_string_lossy()
    ))
}

/// Makes a part of a mounted `/proc` or `/sys` read-only; one that this kernel lacks is left.
pub(crate) fn freeze(path: &CStr) -> Result<(), StepError> {
    match mount_bind(path, path) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => {
            return Err(error).doing(format_args!("bind {}", path.to_string_lossy()));
        }
    }
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | DATA_ONLY, c"")
        .doing(format_args!("make {} read-only", path.to_string_lossy()))
}

/// Hides a file behind `/dev/null` or a folder behind an empty one; what this kernel lacks needs
/// no hiding.
pub(crate) fn mask(path: &CStr) -> Result<(), StepError> {
    match mount_bind(c"/dev/null", path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTDIR) => {
            new(c"tmpfs", path, MountFlags::RDONLY | DATA_ONLY, c"size=0k,nr_inodes=1")
        }
        Err(error) => Err(error).doing(format_args!("mask {}", path.to_string_lossy())),
    }
}
