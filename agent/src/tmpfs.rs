//! Memory file systems in a container's root.

use std::path::Path;

use protocol::Tmpfs;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::{
    inside,
    step::{Doing, StepError},
};

/// Mounts one in the calling process's root.
pub(crate) fn mount(spec: &Tmpfs) -> Result<(), StepError> {
    let path = &spec.path;
    let target = inside::open_or_make_folder(Path::new(path))
        .doing(format_args!("make a place for the tmpfs {path}"))?;
    let made = make(spec).doing(format_args!("make the tmpfs {path}"))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&made, "", &target, "", flags).doing(format_args!("mount the tmpfs {path}"))
}

fn make(spec: &Tmpfs) -> rustix::io::Result<rustix::fd::OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let (uid, gid) = spec.owner;
    fsconfig_set_string(&context, "mode", format!("{:o}", spec.mode))?;
    fsconfig_set_string(&context, "uid", uid.to_string())?;
    fsconfig_set_string(&context, "gid", gid.to_string())?;
    if let Some(bytes) = spec.size_bytes {
        fsconfig_set_string(&context, "size", bytes.to_string())?;
    }
    fsconfig_create(&context)?;
    let mut attributes = MountAttrFlags::empty();
    for (wanted, flag) in [
        (spec.flags.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (spec.flags.no_exec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (spec.flags.no_suid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (spec.flags.no_dev, MountAttrFlags::MOUNT_ATTR_NODEV),
    ] {
        attributes.set(flag, wanted);
    }
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
