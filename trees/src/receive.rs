//! Puts entries down in a folder, and nowhere else.
//!
//! The paths of entries have neither `..` nor empty names. Under [`Rules::STRANGER`] no link is followed
//! on the way to one, whoever has put the link there, and nothing that comes has power on this machine:
//! no devices, no set-user-ID bits, no attributes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use protocol::{FileEntry, FileFailure, FileKind};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chmodat,
    chownat, fchmod, fchown, fsetxattr, ftruncate, futimens, linkat, mkdirat, mknodat, openat,
    openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::contents::{copy_exactly, skip};
use crate::step;
use crate::stream::StreamError;
use crate::walk::open_below;

/// Who owns what is put down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Whoever the entries say.
    Kept,
    /// This user and this group.
    Given(u32, u32),
    /// Whoever runs this program.
    Mine,
}

/// How far the sender is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    owners: Owners,
    sender: From,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Friend,
    Stranger,
}

impl Rules {
    /// For what a guest sends.
    pub const STRANGER: Self = Self { owners: Owners::Mine, sender: From::Stranger };
    /// For what a person puts into a container of their own. Links lead on, as they do inside of it.
    pub const FRIEND: Self = Self { owners: Owners::Kept, sender: From::Friend };

    /// The same with other owners.
    #[must_use]
    pub fn with(self, owners: Owners) -> Self {
        Self { owners, ..self }
    }
}

/// The most folders that one receiver finishes in the end.
const MAX_FOLDERS: usize = 1_000_000;
/// The permissions of a folder that no entry speaks of.
const IMPLIED: Mode = Mode::from_raw_mode(0o755);

/// A folder that receives.
#[derive(Debug)]
pub struct Receiver {
    root: OwnedFd,
    /// What the source itself is called here; empty for the content of a folder.
    name: Vec<u8>,
    rules: Rules,
    /// What the folders are to be like when all is in them.
    folders: BTreeMap<Vec<u8>, FileEntry>,
}

impl Receiver {
    /// Receives in `root` what goes by `name` there.
    #[must_use]
    pub fn new(root: OwnedFd, name: Vec<u8>, rules: Rules) -> Self {
        Self { root, name, rules, folders: BTreeMap::new() }
    }

    /// Puts an entry down, and takes its bytes out of `content`; why it was left out, if it was.
    ///
    /// # Errors
    /// When it cannot be put down or must not be, or its bytes end too early.
    pub fn take(
        &mut self,
        entry: &FileEntry,
        content: &mut impl Read,
    ) -> Result<Option<&'static str>, StreamError> {
        let stored = entry.stored_bytes().ok_or(StreamError::Unexpected)?;
        let path = below(&self.name, &entry.path)?;
        if path.is_empty() {
            // The folder itself is there, and stays as it is.
            return match entry.kind {
                FileKind::Folder => Ok(None),
                _ => Err(unsound(entry).into()),
            };
        }
        if self.is_stranger()
            && matches!(entry.kind, FileKind::CharDevice { .. } | FileKind::BlockDevice { .. })
        {
            skip(content, stored)?;
            return Ok(Some("it is a device"));
        }
        let (parent, name) = self.parent(&path)?;
        self.make_room(entry, &parent, name, &path)?;
        match &entry.kind {
            FileKind::File { size, segments } => {
                let whole = [(0, *size)];
                let pieces = segments.as_deref().unwrap_or(&whole);
                self.file(entry, (&parent, name), (*size, pieces), content)?;
            }
            FileKind::Folder => self.folder(entry, (&parent, name), &path)?,
            FileKind::SameAs { path: first } => self.link(entry, (&parent, name), first)?,
            _ => self.special(entry, (&parent, name))?,
        }
        Ok(None)
    }

    /// Gives folders their permissions and times, the deepest first.
    ///
    /// # Errors
    /// When that fails.
    pub fn finish(self) -> Result<(), FileFailure> {
        for (path, entry) in self.folders.iter().rev() {
            let failed = |error| step(format!("finish {}", crate::shown(path)), error);
            let (parent, name) = self.parent(path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
            fchmod(&folder, self.mode(entry)).map_err(failed)?;
            futimens(&folder, &times(entry)).map_err(failed)?;
        }
        Ok(())
    }

    fn is_stranger(&self) -> bool {
        self.rules.sender == From::Stranger
    }

    /// The folder that a path lies in, made when it is missing, and the name in it.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), FileFailure> {
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = at.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        let failed = |error| match error {
            Errno::LOOP | Errno::XDEV | Errno::NOTDIR => {
                FileFailure::NotAFolder { path: above.to_vec() }
            }
            error => step(format!("enter {}", crate::shown(above)), error),
        };
        match self.open(above) {
            Err(Errno::NOENT) => self.make_folders(above).map_err(failed)?,
            opened => return Ok((opened.map_err(failed)?, name)),
        }
        Ok((self.open(above).map_err(failed)?, name))
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if self.is_stranger() || path.is_empty() {
            return open_below(self.root.as_fd(), path);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    }

    fn make_folders(&self, path: &[u8]) -> Result<(), Errno> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut parent = self.open(b"")?;
        let mut begin = 0;
        for end in ends.chain([path.len()]) {
            match mkdirat(&parent, &path[begin..end], IMPLIED) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            parent = self.open(&path[..end])?;
            begin = end + 1;
        }
        Ok(())
    }

    /// Takes away what an entry takes the place of; a folder and something else never do that of each
    /// other.
    fn make_room(
        &self,
        entry: &FileEntry,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), FileFailure> {
        let failed = |error| step(format!("replace {}", crate::shown(path)), error);
        let there = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            there => there.map_err(failed)?,
        };
        let was_folder = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        let is_folder = entry.kind == FileKind::Folder;
        match (was_folder, is_folder) {
            (true, true) => Ok(()),
            (false, false) => unlinkat(parent, name, AtFlags::empty()).map_err(failed),
            _ => Err(FileFailure::Overwrite { path: path.to_vec(), is_folder }),
        }
    }

    fn file(
        &self,
        entry: &FileEntry,
        (parent, name): (&OwnedFd, &[u8]),
        (size, pieces): (u64, &[(u64, u64)]),
        content: &mut impl Read,
    ) -> Result<(), StreamError> {
        let failed = |error: std::io::Error| {
            StreamError::from(step(format!("write {}", crate::shown(&entry.path)), error))
        };
        let kernel = |error: Errno| failed(error.into());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        let private = Mode::RUSR | Mode::WUSR;
        let file = openat(parent, name, flags | OFlags::CLOEXEC, private).map_err(kernel)?;
        let mut file = File::from(file);
        for (offset, length) in pieces {
            file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
            copy_exactly(content, &mut file, *length).map_err(failed)?;
        }
        if pieces.last().is_none_or(|(offset, length)| offset + length < size) {
            ftruncate(&file, size).map_err(kernel)?;
        }
        if let Some((owner, group)) = self.owner(entry) {
            fchown(&file, Some(owner), Some(group)).map_err(kernel)?;
        }
        fchmod(&file, self.mode(entry)).map_err(kernel)?;
        self.set_xattrs(entry, file.as_fd()).map_err(kernel)?;
        futimens(&file, &times(entry)).map_err(kernel)
    }

    fn folder(
        &mut self,
        entry: &FileEntry,
        (parent, name): (&OwnedFd, &[u8]),
        path: &[u8],
    ) -> Result<(), FileFailure> {
        let failed = |error| step(format!("make {}", crate::shown(path)), error);
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        if let Some((owner, group)) = self.owner(entry) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            chownat(parent, name, Some(owner), Some(group), flags).map_err(failed)?;
        }
        if !entry.xattrs.is_empty() && !self.is_stranger() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = openat(parent, name, flags, Mode::empty()).map_err(failed)?;
            self.set_xattrs(entry, folder.as_fd()).map_err(failed)?;
        }
        if self.folders.len() == MAX_FOLDERS && !self.folders.contains_key(path) {
            return Err(FileFailure::Unsound { path: path.to_vec() });
        }
        let rest = FileEntry { path: Vec::new(), xattrs: Vec::new(), ..entry.clone() };
        self.folders.insert(path.to_vec(), rest);
        Ok(())
    }

    /// A further name of something that came before. The kernel follows no link for it.
    fn link(
        &self,
        entry: &FileEntry,
        (parent, name): (&OwnedFd, &[u8]),
        first: &[u8],
    ) -> Result<(), FileFailure> {
        let first = below(&self.name, first)?;
        if first.is_empty() {
            return Err(unsound(entry));
        }
        let (from, old) = self.parent(&first)?;
        linkat(&from, old, parent, name, AtFlags::empty())
            .map_err(|error| step(format!("link {}", crate::shown(&entry.path)), error))
    }

    fn special(
        &self,
        entry: &FileEntry,
        (parent, name): (&OwnedFd, &[u8]),
    ) -> Result<(), FileFailure> {
        let failed = |error| step(format!("make {}", crate::shown(&entry.path)), error);
        let mode = self.mode(entry);
        let make = |kind, major, minor| {
            mknodat(parent, name, kind, mode, rustix::fs::makedev(major, minor))
        };
        let made = match &entry.kind {
            FileKind::Link { target } => symlinkat(&target[..], parent, name),
            FileKind::Fifo => make(FileType::Fifo, 0, 0),
            FileKind::CharDevice { major, minor } => {
                make(FileType::CharacterDevice, *major, *minor)
            }
            FileKind::BlockDevice { major, minor } => make(FileType::BlockDevice, *major, *minor),
            FileKind::File { .. } | FileKind::Folder | FileKind::SameAs { .. } => Ok(()),
        };
        made.map_err(failed)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((owner, group)) = self.owner(entry) {
            chownat(parent, name, Some(owner), Some(group), flags).map_err(failed)?;
        }
        // A link has no permissions; what was just made is no link that somebody else could change.
        if !matches!(entry.kind, FileKind::Link { .. }) {
            chmodat(parent, name, mode, AtFlags::empty()).map_err(failed)?;
        }
        utimensat(parent, name, &times(entry), flags).map_err(failed)
    }

    fn owner(&self, entry: &FileEntry) -> Option<(Uid, Gid)> {
        let (owner, group) = match self.rules.owners {
            Owners::Kept => (entry.uid, entry.gid),
            Owners::Given(owner, group) => (owner, group),
            Owners::Mine => return None,
        };
        // All ones would mean that nothing changes.
        (owner != u32::MAX && group != u32::MAX)
            .then(|| (Uid::from_raw(owner), Gid::from_raw(group)))
    }

    /// The permissions that an entry asks for, without those that give power on this machine.
    fn mode(&self, entry: &FileEntry) -> Mode {
        let mask = if self.is_stranger() { 0o1777 } else { 0o7777 };
        Mode::from_raw_mode(u32::from(entry.mode) & mask)
    }

    fn set_xattrs(
        &self,
        entry: &FileEntry,
        file: std::os::fd::BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        if self.is_stranger() {
            return Ok(());
        }
        for (name, value) in &entry.xattrs {
            match fsetxattr(file, &name[..], value, rustix::fs::XattrFlags::empty()) {
                // A file system without such attributes has the file without them.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where an entry of the source `name` comes to lie below the destination: never above it.
///
/// # Errors
/// When its path has a name that no file can have.
pub fn below(name: &[u8], path: &[u8]) -> Result<Vec<u8>, FileFailure> {
    let mut whole = name.to_vec();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if matches!(name, b"." | b"..") || name.contains(&0) {
            return Err(FileFailure::Unsound { path: path.to_vec() });
        }
        if !whole.is_empty() {
            whole.push(b'/');
        }
        whole.extend_from_slice(name);
    }
    Ok(whole)
}

fn unsound(entry: &FileEntry) -> FileFailure {
    FileFailure::Unsound { path: entry.path.clone() }
}

fn times(entry: &FileEntry) -> Timestamps {
    let (tv_sec, nanoseconds) = entry.modified;
    // Larger ones are not nanoseconds, but have meanings of their own.
    let moment = Timespec { tv_sec, tv_nsec: i64::from(nanoseconds.min(999_999_999)) };
    Timestamps { last_access: moment, last_modification: moment }
}

#[cfg(test)]
mod tests;
