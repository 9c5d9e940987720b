//! Terminals from the container's own devpts; the first is made before the container is.

use std::{ffi::CStr, os::fd::OwnedFd, path::Path};

use protocol::WindowSize;
use rustix::{
    fs::{CWD, Mode, OFlags, Uid, fchown, openat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    },
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    inside,
    step::{Doing, StepError},
};

/// A pseudo-terminal.
pub(crate) struct Sides {
    /// The agent's side.
    pub(crate) master: OwnedFd,
    /// The container's side.
    pub(crate) slave: OwnedFd,
}

/// A pseudo-terminal and the file system it is in.
pub(crate) struct Terminal {
    /// A devpts of its own, mounted nowhere yet.
    devpts: OwnedFd,
    /// The first terminal in it.
    pub(crate) sides: Sides,
}

const PTMX_FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl Terminal {
    /// Opens the first terminal of a new devpts, sized and owned as its program will find it.
    pub(crate) fn open(size: WindowSize, owner: u32) -> Result<Self, StepError> {
        let devpts = make_devpts().doing("make a devpts")?;
        let master = openat(&devpts, "ptmx", PTMX_FLAGS, Mode::empty()).doing("open a terminal")?;
        Ok(Self { devpts, sides: Sides::new(master, size, owner)? })
    }

    /// Mounts the devpts where the container looks for it.
    pub(crate) fn attach(&self, target: &CStr) -> Result<(), StepError> {
        move_mount(&self.devpts, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .doing(format_args!("mount {}", target.to_string_lossy()))
    }
}

/// Opens one more terminal of the container that the calling process is in.
pub(crate) fn open_inside(size: WindowSize, owner: u32) -> Result<Sides, StepError> {
    let master = inside::open(Path::new("/dev/pts/ptmx"), PTMX_FLAGS).doing("open a terminal")?;
    Sides::new(master, size, owner)
}

impl Sides {
    fn new(master: OwnedFd, size: WindowSize, owner: u32) -> Result<Self, StepError> {
        unlockpt(&master).doing("unlock the terminal")?;
        resize(&master, size)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).doing("open the terminal's other side")?;
        fchown(&slave, Some(Uid::from_raw(owner)), None).doing("give the terminal its owner")?;
        Ok(Self { master, slave })
    }
}

/// Tells a terminal how large its window is.
pub(crate) fn resize(master: &OwnedFd, size: WindowSize) -> Result<(), StepError> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).doing("set the window size")
}

/// With the new mount calls a terminal can be opened before its file system is in any tree; the
/// same mount is then moved into the container's, so that `tty` finds the name there.
fn make_devpts() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&context, "newinstance")?;
    for (key, value) in [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")] {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
