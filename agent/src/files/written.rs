//! What the container has written, seen from outside: the upper folder of its overlay, beside the image
//! that lies below it (Documentation/filesystems/overlayfs.rst).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::FileFailure;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fgetxattr, openat, statat},
    io::Errno,
};
use trees::{Place, Walk, open_below, step};

use crate::{disks, etc::EtcMounts};

/// The folder that the container writes to, and the image's root.
pub(super) struct Written {
    upper: OwnedFd,
    image: OwnedFd,
}

impl Written {
    pub(super) fn open() -> Result<Self, FileFailure> {
        let open = |path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty())
                .map_err(|error| step(format!("open {path}"), error))
        };
        Ok(Self { upper: open(disks::UPPER)?, image: open(disks::IMAGE)? })
    }

    /// Where the container's own entries lie.
    pub(super) fn upper(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }

    /// A walk through all that the container has written.
    pub(super) fn walk(&self) -> Result<Walk<'_>, FileFailure> {
        Walk::new(self.upper()).map_err(|error| step("read what the container has written", error))
    }

    /// A folder of the image, if there is one at this path.
    pub(super) fn image_folder(&self, path: &[u8]) -> Option<OwnedFd> {
        open_below(self.image.as_fd(), path).ok()
    }

    /// What the image has at a path.
    pub(super) fn in_image(&self, path: &[u8]) -> Option<Stat> {
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = at.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        let name: &[u8] = if name.is_empty() { b"." } else { name };
        statat(self.image_folder(parent)?, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Whether this is here only because the agent has mounted something over it: a place that it has
    /// made, and that nobody has changed.
    pub(super) fn is_mount_point(&self, place: &Place<'_>, stat: &Stat) -> bool {
        let path = [b"/", &place.path[..]].concat();
        let is_file = EtcMounts::PATHS.iter().any(|known| known.as_bytes() == path);
        let is_folder = [&b"/proc"[..], b"/sys", b"/dev"].contains(&&path[..]);
        let looks_new = match kind(stat) {
            FileType::RegularFile => is_file && stat.st_size == 0,
            FileType::Directory => is_folder && self.is_empty(&place.path),
            _ => false,
        };
        looks_new && self.in_image(&place.path).is_none()
    }

    fn is_empty(&self, path: &[u8]) -> bool {
        open_below(self.upper(), path)
            .and_then(|folder| Ok(Walk::new(folder.as_fd())?.next_place().is_none()))
            .unwrap_or(false)
    }
}

/// What is at a place; none if it has vanished.
pub(super) fn look(place: &Place<'_>) -> Result<Option<Stat>, FileFailure> {
    match statat(place.folder, &place.name[..], AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(step(format!("look at {}", trees::shown(&place.path)), error)),
    }
}

/// Whether this says that the image's file of the same name is gone.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a folder hides all that the image has there.
pub(super) fn is_opaque(folder: BorrowedFd<'_>) -> bool {
    let mut value = [0; 1];
    fgetxattr(folder, c"trusted.overlay.opaque", &mut value[..]) == Ok(1) && value == *b"y"
}

pub(super) fn is_folder(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
