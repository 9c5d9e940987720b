//! How the container's files differ from its image's, as `docker diff` tells it: by permissions, owner,
//! device, capabilities, and for what is no folder by size and time. Content is not compared.

use std::{
    collections::BTreeSet,
    io::Write,
    os::fd::{AsFd, BorrowedFd},
};

use protocol::{ChangeKind, FileChange, FileItem};
use rustix::fs::{Mode, OFlags, Stat, fgetxattr, openat};
use trees::{Place, Sender, StreamError, Walk, open_below, step};

use super::written::{Written, is_folder, is_opaque, is_whiteout, look};

/// Tells the changes, each folder's before those in it.
pub(super) fn tell(sender: &mut Sender<impl Write>) -> Result<(), StreamError> {
    let written = Written::open()?;
    let mut teller = Teller { written: &written, sender, untold: Vec::new() };
    let mut walk = written.walk()?;
    while let Some(place) = walk.next_place() {
        let Some(stat) = look(&place)? else { continue };
        let path = place.path.clone();
        if teller.place(&place, &stat)? {
            let failed = |error| step(format!("read {}", trees::shown(&path)), error);
            walk.enter(&path).map_err(failed)?;
        }
    }
    Ok(())
}

struct Teller<'a, W: Write> {
    written: &'a Written,
    sender: &'a mut Sender<W>,
    /// Folders that are the image's, in which nothing has changed up to now; the outermost first.
    untold: Vec<Vec<u8>>,
}

impl<W: Write> Teller<'_, W> {
    /// Tells about a place; whether it is a folder to go into.
    fn place(&mut self, place: &Place<'_>, stat: &Stat) -> Result<bool, StreamError> {
        let path = &place.path;
        self.untold.retain(|folder| is_above(folder, path));
        let image = self.written.in_image(path);
        if is_whiteout(stat) {
            if image.is_some() {
                self.change(path, ChangeKind::Deleted)?;
            }
            return Ok(false);
        }
        if self.written.is_mount_point(place, stat) {
            return Ok(false);
        }
        match &image {
            None => self.change(path, ChangeKind::Added)?,
            Some(image) if self.differs(place, stat, image) => {
                self.change(path, ChangeKind::Changed)?;
            }
            Some(_) if is_folder(stat) => self.untold.push(path.clone()),
            Some(_) => {}
        }
        if is_folder(stat) && image.is_some_and(|image| is_folder(&image)) {
            self.hidden_below(path)?;
        }
        Ok(is_folder(stat))
    }

    /// What the image has in a folder that hides it is gone, unless it is there again.
    fn hidden_below(&mut self, path: &[u8]) -> Result<(), StreamError> {
        let failed = |error| step(format!("read {}", trees::shown(path)), error);
        let folder = open_below(self.written.upper(), path).map_err(failed)?;
        if !is_opaque(folder.as_fd()) {
            return Ok(());
        }
        let mut kept = BTreeSet::new();
        let mut walk = Walk::new(folder.as_fd()).map_err(failed)?;
        while let Some(place) = walk.next_place() {
            kept.insert(place.name);
        }
        let kept: Vec<_> = kept.into_iter().collect();
        self.deleted_below(path, &kept)
    }

    fn deleted_below(&mut self, path: &[u8], kept: &[Vec<u8>]) -> Result<(), StreamError> {
        let Some(image) = self.written.image_folder(path) else { return Ok(()) };
        let failed = |error| step(format!("read {}", trees::shown(path)), error);
        let mut walk = Walk::new(image.as_fd()).map_err(failed)?;
        while let Some(place) = walk.next_place() {
            if kept.binary_search(&place.name).is_err() {
                let path = [path, b"/", &place.name].concat();
                self.change(&path, ChangeKind::Deleted)?;
            }
        }
        Ok(())
    }

    /// A change in a folder is one of the folder, which is told first.
    fn change(&mut self, path: &[u8], kind: ChangeKind) -> Result<(), StreamError> {
        for folder in std::mem::take(&mut self.untold) {
            self.say(&folder, ChangeKind::Changed)?;
        }
        self.say(path, kind)
    }

    fn say(&mut self, path: &[u8], kind: ChangeKind) -> Result<(), StreamError> {
        let path = [b"/", path].concat();
        Ok(self.sender.item(&FileItem::Change(FileChange { path, kind }))?)
    }

    /// As moby's `statDifferent` has it: not by what changes when a file is copied up.
    fn differs(&self, place: &Place<'_>, new: &Stat, old: &Stat) -> bool {
        let owner = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        if owner(new) != owner(old) {
            return true;
        }
        if is_folder(new) {
            return false;
        }
        let same_time = new.st_mtime == old.st_mtime
            && (new.st_mtime_nsec == old.st_mtime_nsec
                || new.st_mtime_nsec == 0
                || old.st_mtime_nsec == 0);
        if !same_time || new.st_size != old.st_size {
            return true;
        }
        let above = place.path.len().saturating_sub(place.name.len() + 1);
        let Some(image) = self.written.image_folder(&place.path[..above]) else { return true };
        capability(image.as_fd(), &place.name) != capability(place.folder, &place.name)
    }
}

/// The capabilities of a regular file.
fn capability(folder: BorrowedFd<'_>, name: &[u8]) -> Option<Vec<u8>> {
    const MAX_BYTES: usize = 64;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty()).ok()?;
    let mut value = [0; MAX_BYTES];
    let length = fgetxattr(&file, c"security.capability", &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}

/// Whether a path lies below a folder.
fn is_above(folder: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}
