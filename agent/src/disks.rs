//! Lays the writable disk over the image's: the container's root file system, seen from outside.

use std::{
    ffi::CString,
    fs,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use protocol::{ContainerSpec, Device};
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmod, chown, fstat, mkdir, open,
        openat2, stat, statat,
    },
    io::Errno,
    mount::{MountFlags, UnmountFlags, unmount},
};

use crate::{
    mounts::{self, NOTHING_SPECIAL},
    step::{Doing, StepError},
};

/// Where the container's root is mounted in the agent's own tree.
pub(crate) const CONTAINER: &str = "/container";
const IMAGE: &str = "/image";
const SCRATCH: &str = "/scratch";
const UPPER: &str = "/scratch/upper";
const WORK: &str = "/scratch/work";

/// The container's root with the disks it is made of.
pub(crate) struct Disks {
    root: OwnedFd,
    scratch: String,
}

impl Disks {
    /// Mounts the disks and the overlay of both.
    pub(crate) fn mount(spec: &ContainerSpec) -> Result<Self, StepError> {
        for folder in [IMAGE, SCRATCH, CONTAINER] {
            make_folder(folder, Mode::RWXU)?;
        }
        let image = device_path(spec.image_disk)?;
        let scratch = device_path(spec.scratch_disk)?;
        mount_disk(&image, c"erofs", c"/image", MountFlags::RDONLY)?;
        mount_disk(&scratch, c"ext4", c"/scratch", NOTHING_SPECIAL)?;
        Ok(Self { root: overlay()?, scratch })
    }

    /// What the container's root is now, for a look at the image's files.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Takes everything apart and waits until the scratch disk is nobody's, so that its file
    /// system is left clean. The container's own mounts go with its last process, a little later.
    pub(crate) fn release(self) {
        const TRIES: u32 = 100;
        const PAUSE: Duration = Duration::from_millis(2);
        drop(self.root);
        for target in [CONTAINER, SCRATCH, IMAGE] {
            let _ = unmount(target, UnmountFlags::DETACH);
        }
        for _ in 0..TRIES {
            // A mounted file system holds its disk exclusively, open(2).
            let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
            match open(&self.scratch, flags, Mode::empty()) {
                Err(Errno::BUSY) => thread::sleep(PAUSE),
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// A regular file of the container, up to a limit, or none if there is no such file. Links are
/// followed inside the root only.
pub(crate) fn read_file(
    root: BorrowedFd<'_>,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, StepError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error).doing(format_args!("open the image's {path}")),
    };
    let status = fstat(&file).doing(format_args!("look at the image's {path}"))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut content = Vec::new();
    fs::File::from(file)
        .take(limit + 1)
        .read_to_end(&mut content)
        .doing(format_args!("read the image's {path}"))?;
    if content.len() as u64 > limit {
        return Err(Errno::FBIG).doing(format_args!("read the image's {path}"));
    }
    Ok(Some(content))
}

fn mount_disk(
    device: &str,
    kind: &std::ffi::CStr,
    target: &std::ffi::CStr,
    flags: MountFlags,
) -> Result<(), StepError> {
    let source = CString::new(device).doing("name a disk")?;
    mounts::from(&source, kind, target, flags, c"")
        .map_err(std::io::Error::other)
        .doing(format_args!("use the disk {device}"))
}

/// Puts the scratch disk's folders over the image. The options keep the upper folder a plain
/// layer: no redirects, no metadata-only copies, no index.
fn overlay() -> Result<OwnedFd, StepError> {
    const OPTIONS: &std::ffi::CStr = c"lowerdir=/image,upperdir=/scratch/upper,\
        workdir=/scratch/work,redirect_dir=off,metacopy=off,index=off";
    make_upper()?;
    make_folder(WORK, Mode::RWXU)?;
    mounts::new(c"overlay", c"/container", NOTHING_SPECIAL, OPTIONS)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(CONTAINER, flags, Mode::empty()).doing("open the container's root")
}

/// Makes the upper folder, if this is the disk's first start. The root of an overlay shows the
/// owner and mode of the upper folder, so they are copied from the image's.
fn make_upper() -> Result<(), StepError> {
    if statat(rustix::fs::CWD, UPPER, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    const UNFINISHED: &str = "/scratch/upper.new";
    let status = stat(IMAGE).doing("look at the image's root")?;
    make_folder(UNFINISHED, Mode::RWXU)?;
    let (owner, group) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    chown(UNFINISHED, Some(owner), Some(group)).doing("give the upper folder its owner")?;
    let mode = Mode::from_raw_mode(status.st_mode);
    chmod(UNFINISHED, mode).doing("give the upper folder its mode")?;
    rustix::fs::rename(UNFINISHED, UPPER).doing("name the upper folder")
}

fn make_folder(path: &str, mode: Mode) -> Result<(), StepError> {
    match mkdir(path, mode) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).doing(format_args!("make {path}")),
    }
}

fn device_path(device: Device) -> Result<String, StepError> {
    let letter = device.index.checked_add(b'a').filter(u8::is_ascii_lowercase);
    let letter = letter.ok_or(Errno::NODEV).doing(format_args!("find disk {}", device.index))?;
    Ok(format!("/dev/vd{}", char::from(letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_letters() {
        assert_eq!(device_path(Device { index: 0 }).unwrap(), "/dev/vda");
        assert_eq!(device_path(Device { index: 25 }).unwrap(), "/dev/vdz");
        assert!(device_path(Device { index: 26 }).is_err());
        assert!(device_path(Device { index: 255 }).is_err());
    }
}
