//! What a file is beside its content, as an entry has it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::{FileEntry, FileKind};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fgetxattr, flistxattr, fstat, major, minor,
    openat, readlinkat, seek, statat,
};
use rustix::io::Errno;

/// The most pieces of a sparse file; what lies behind them is sent as it is read.
const MAX_SEGMENTS: usize = 4096;
/// The most bytes of an attribute (xattr(7)).
const MAX_VALUE_BYTES: usize = 64 << 10;

/// Names with their prefixes, and values of any bytes.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A file as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// All about it but its path.
    pub(crate) entry: FileEntry,
    /// What the kernel says of it.
    pub(crate) stat: Stat,
    /// A regular file, open for reading.
    pub(crate) content: Option<OwnedFd>,
}

/// Looks at a name in a folder; none for a socket, which no archive can hold. Neither links nor pipes
/// nor devices are opened.
pub(crate) fn look(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Found>, Errno> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = |more: OFlags| openat(folder, name, flags | OFlags::CLOEXEC | more, Mode::empty());
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return regular(open(OFlags::empty())?).map(Some),
        FileType::Directory => return folder_itself(open(OFlags::DIRECTORY)?.as_fd()).map(Some),
        FileType::Symlink => {
            FileKind::Link { target: readlinkat(folder, name, Vec::new())?.into_bytes() }
        }
        FileType::CharacterDevice => FileKind::CharDevice { major: device.0, minor: device.1 },
        FileType::BlockDevice => FileKind::BlockDevice { major: device.0, minor: device.1 },
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket | FileType::Unknown => return Ok(None),
    };
    Ok(Some(Found { entry: entry(&stat, kind, Vec::new()), stat, content: None }))
}

/// An open folder.
pub(crate) fn folder_itself(folder: BorrowedFd<'_>) -> Result<Found, Errno> {
    let stat = fstat(folder)?;
    let entry = entry(&stat, FileKind::Folder, xattrs(folder)?);
    Ok(Found { entry, stat, content: None })
}

/// What was opened may have taken the place of what was looked at.
fn regular(file: OwnedFd) -> Result<Found, Errno> {
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::NOENT);
    }
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let segments = if stat.st_blocks.saturating_mul(512) < stat.st_size {
        segments(file.as_fd(), size)
    } else {
        None
    };
    let kind = FileKind::File { size, segments };
    Ok(Found { entry: entry(&stat, kind, xattrs(file.as_fd())?), stat, content: Some(file) })
}

fn entry(stat: &Stat, kind: FileKind, xattrs: Xattrs) -> FileEntry {
    FileEntry {
        path: Vec::new(),
        kind,
        mode: u16::try_from(stat.st_mode & 0o7777).expect("it is masked to twelve bits"),
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
        xattrs,
    }
}

/// Where a file has bytes; none if its file system does not say. It may change meanwhile: the pieces
/// ascend all the same.
fn segments(file: BorrowedFd<'_>, size: u64) -> Option<Vec<(u64, u64)>> {
    let (mut segments, mut at) = (Vec::new(), 0);
    while at < size {
        let begin = match seek(file, SeekFrom::Data(at)) {
            Ok(begin) if begin < size => begin.max(at),
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = match segments.len() {
            MAX_SEGMENTS => size,
            _ => seek(file, SeekFrom::Hole(begin)).ok()?.clamp(begin, size),
        };
        if end == begin {
            return None;
        }
        segments.push((begin, end - begin));
        at = end;
    }
    Some(segments)
}

/// The attributes of an open file; none on a file system that has none.
fn xattrs(file: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    let mut names = vec![0; MAX_VALUE_BYTES];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(0) | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => return Ok(Vec::new()),
        length => length?,
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; MAX_VALUE_BYTES];
        // One that has vanished, or is not this user's to read, is not there.
        if let Ok(length) = fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            xattrs.push((name.to_vec(), value));
        }
    }
    Ok(xattrs)
}
