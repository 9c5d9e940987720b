//! Lays the writable disk over the image's: the container's root file system, seen from outside.

use std::{
    ffi::{CStr, CString},
    fs,
    io::Read,
    num::NonZeroU64,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use protocol::Device;
use rustix::{
    fs::{
        Advice, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmod, chown,
        fadvise, fstat, mkdir, open, openat2, stat, statat,
    },
    io::Errno,
    mount::{MountFlags, mount_remount},
};

use crate::{
    mounts::{self, NOTHING_SPECIAL},
    step::{Doing, StepError},
};

/// Where the container's root is mounted in the agent's own tree.
pub(crate) const CONTAINER: &str = "/container";
/// The image's own root.
pub(crate) const IMAGE: &str = "/image";
/// The disk that takes what the container writes.
pub(crate) const SCRATCH: &str = "/scratch";
/// What it has written, beside the image.
pub(crate) const UPPER: &str = "/scratch/upper";
/// What overlayfs makes when it is mounted over a scratch disk for the first time.
const USED: &str = "/scratch/work/work";
/// Nothing runs in the background: no inode table is filled with zeros, no bitmap read ahead.
const SCRATCH_OPTIONS: &CStr = c"noinit_itable,no_prefetch_block_bitmaps";

/// Where the blank file system has what its mount and the overlay's read, one block after another, as
/// offsets and lengths in bytes: superblock, groups, bitmaps and first inodes; the first folders.
/// Where they lie elsewhere, nothing is gained and nothing lost.
const FIRST_READ: [(u64, u64); 2] = [(0, 144 << 10), (0x202_3000, 28 << 10)];

/// The container's root with the disks it is made of.
pub(crate) struct Disks {
    root: OwnedFd,
}

impl Disks {
    /// Mounts the disks and the overlay of both.
    pub(crate) fn mount(image: Device, scratch: Device) -> Result<Self, StepError> {
        for folder in [IMAGE, SCRATCH, CONTAINER] {
            make_folder(folder, Mode::RWXU)?;
        }
        let (image, scratch) = (device_path(image)?, device_path(scratch)?);
        // Comes while the image is mounted. The blocks would be forgotten without somebody who has the
        // disk open.
        let _open = read_ahead(&scratch);
        mount_disk(&image, c"erofs", c"/image", MountFlags::RDONLY, c"")?;
        mount_disk(&scratch, c"ext4", c"/scratch", NOTHING_SPECIAL, SCRATCH_OPTIONS)?;
        Ok(Self { root: overlay()? })
    }

    /// What the container's root is now, for a look at the image's files.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Leaves the scratch disk's file system clean. Its processes are gone by now, and with them whatever they
    /// had open.
    pub(crate) fn release(self) {
        // What is still busy has nothing more to say: the machine ends next.
        let _ = mount_remount(SCRATCH, MountFlags::RDONLY, c"");
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

/// Asks for what is read first of a disk, and waits for none of it; failing is the mount's to tell.
fn read_ahead(device: &str) -> Option<OwnedFd> {
    let disk = open(device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    for (offset, length) in FIRST_READ {
        let _ = fadvise(&disk, offset, NonZeroU64::new(length), Advice::WillNeed);
    }
    Some(disk)
}

fn mount_disk(
    device: &str,
    kind: &CStr,
    target: &CStr,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), StepError> {
    let source = CString::new(device).doing("name a disk")?;
    mounts::from(&source, kind, target, flags, options)
        .map_err(std::io::Error::other)
        .doing(format_args!("use the disk {device}"))
}

/// Puts the scratch disk's folders over the image. The options keep the upper folder a plain
/// layer: no redirects, no metadata-only copies, no index.
fn overlay() -> Result<OwnedFd, StepError> {
    const OPTIONS: &CStr = c"lowerdir=/image,upperdir=/scratch/upper,\
        workdir=/scratch/work,redirect_dir=off,metacopy=off,index=off";
    if statat(CWD, USED, AtFlags::SYMLINK_NOFOLLOW).is_err() {
        resemble_image()?;
    }
    mounts::new(c"overlay", c"/container", NOTHING_SPECIAL, OPTIONS)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(CONTAINER, flags, Mode::empty()).doing("open the container's root")
}

/// The root of an overlay shows the owner and mode of the upper folder, so on the disk's first
/// start they become the image's.
fn resemble_image() -> Result<(), StepError> {
    let image = stat(IMAGE).doing("look at the image's root")?;
    let upper = stat(UPPER).doing("look at the scratch disk's upper folder")?;
    if (image.st_uid, image.st_gid) != (upper.st_uid, upper.st_gid) {
        let (owner, group) = (Uid::from_raw(image.st_uid), Gid::from_raw(image.st_gid));
        chown(UPPER, Some(owner), Some(group)).doing("give the upper folder its owner")?;
    }
    if image.st_mode != upper.st_mode {
        let mode = Mode::from_raw_mode(image.st_mode);
        chmod(UPPER, mode).doing("give the upper folder its mode")?;
    }
    Ok(())
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
