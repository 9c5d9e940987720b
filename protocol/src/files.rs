//! What the host may want of a container's files, and the words of the stream that carries them.
//!
//! Each job has one stream of its own ([`StreamKind::Files`](crate::StreamKind)), on which frames
//! with a [`FileItem`] go both ways; the stored bytes of a file follow its entry without frames.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the host wants of a container's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileJob {
    /// Send what lies at a path: [`FileItem::Source`], its entries, and [`FileItem::Done`].
    Read {
        /// From the root; a trailing slash or `/.` means the folder behind a link.
        path: Vec<u8>,
        /// Whether a link at the end of the path is followed.
        links: Links,
    },
    /// Put what is sent to a path: [`FileItem::Ready`] asks for entries and a [`FileItem::Done`],
    /// which is answered with another one.
    Write {
        /// From the root.
        path: Vec<u8>,
        /// What will come; none for an archive, whose entries go into the folder at the path.
        source: Option<SourceName>,
        /// Who owns what is put there.
        owner: Owner,
    },
    /// Tell how the container's files differ from its image: [`FileItem::Change`] for each.
    Changes,
    /// Send what the container has written as the entries of an image's layer, whiteouts among them.
    Layer {
        /// What its processes do meanwhile.
        processes: Processes,
    },
}

/// Whether a link at the end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Links {
    /// It is what is meant.
    Kept,
    /// What it leads to is meant.
    Followed,
}

/// What a source is called where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceName {
    /// Its name; empty when the content of a folder is meant.
    pub name: Vec<u8>,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// Who owns what is put into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// The numbers that come with the entries.
    Kept,
    /// The container's own user, where it has one.
    Container,
}

/// What a container's processes do while its files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Processes {
    /// They stand still.
    Halted,
    /// They go on.
    Running,
}

/// What is said on a stream of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileItem {
    /// What a [`FileJob::Read`] has found.
    Source {
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// Entries may come.
    Ready,
    /// A file, folder or the like; its stored bytes follow.
    Entry(FileEntry),
    /// What has become of a file.
    Change(FileChange),
    /// Something cannot be carried, and the rest goes on.
    LeftOut {
        /// Where it lies.
        path: Vec<u8>,
        /// Why.
        reason: String,
    },
    /// That was all, and all of it was right.
    Done,
    /// That was all, and something was not right.
    Failed(FileFailure),
}

/// Something in a tree of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where it lies below the source; empty for the source itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// The number of its owner.
    pub uid: u32,
    /// And of its group.
    pub gid: u32,
    /// When it was changed last: seconds since 1970, and nanoseconds forward from there.
    pub modified: (i64, u32),
    /// Extended attributes, names with their prefixes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Where it has bytes, as offsets and lengths in order; none if that is everywhere.
        segments: Option<Vec<(u64, u64)>>,
    },
    /// A folder.
    Folder,
    /// A symbolic link.
    Link {
        /// Where it points to.
        target: Vec<u8>,
    },
    /// A further name of an entry that came before.
    SameAs {
        /// That entry's path.
        path: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl FileEntry {
    /// The bytes that follow the entry on a stream. None if its segments make no sense.
    #[must_use]
    pub fn stored_bytes(&self) -> Option<u64> {
        let FileKind::File { size, segments } = &self.kind else { return Some(0) };
        let Some(segments) = segments else { return Some(*size) };
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in segments {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length)?;
            sum = sum.checked_add(*length)?;
        }
        (end <= *size).then_some(sum)
    }
}

/// How a file of the container differs from the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Where it lies, from the root on.
    pub path: Vec<u8>,
    /// How it differs.
    pub kind: ChangeKind,
}

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The image does not have it.
    Added,
    /// It is another than the image's.
    Changed,
    /// The container does not have it any more.
    Deleted,
}

/// Why files were not carried, in Docker's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum FileFailure {
    /// Nothing lies at a path.
    #[error("no such file or directory: {}", show(path))]
    NotFound {
        /// The path.
        path: Vec<u8>,
    },
    /// What is to be a folder is none.
    #[error("not a directory: {}", show(path))]
    NotAFolder {
        /// Where it lies.
        path: Vec<u8>,
    },
    /// A folder was to take the place of a file.
    #[error("cannot copy directory")]
    FolderToFile,
    /// The destination's slash says that it is a folder, which it is not.
    #[error("no such directory")]
    NoSuchFolder,
    /// An archive goes into folders only.
    #[error("destination {} must be a directory", show(path))]
    MustBeFolder {
        /// The destination.
        path: Vec<u8>,
    },
    /// The destination is a device, a pipe or a socket.
    #[error("destination {} must be a directory or a regular file", show(path))]
    NotOrdinary {
        /// The destination.
        path: Vec<u8>,
    },
    /// The source is a socket.
    #[error("cannot copy the socket {}", show(path))]
    Socket {
        /// The source.
        path: Vec<u8>,
    },
    /// A file was to take the place of a folder, or a folder that of a file.
    #[error("cannot overwrite {} with {}: {}", folder(!is_folder), folder(*is_folder), show(path))]
    Overwrite {
        /// What would be overwritten.
        path: Vec<u8>,
        /// Whether a folder was to be put there.
        is_folder: bool,
    },
    /// The container's root refuses writes.
    #[error("container rootfs is marked read-only")]
    ReadOnly,
    /// An entry's path, link or length makes no sense, or leads out of the destination.
    #[error(
        "refusing an entry that leads out of the destination or makes no sense: {}",
        show(path)
    )]
    Unsound {
        /// The path of the entry.
        path: Vec<u8>,
    },
    /// A step failed.
    #[error("cannot {doing}: {reason}")]
    Step {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        reason: String,
    },
}

/// A path for a person: in quotes, without control characters.
fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}

fn folder(is_folder: bool) -> &'static str {
    if is_folder { "directory" } else { "non-directory" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, segments: Option<Vec<(u64, u64)>>) -> FileEntry {
        FileEntry {
            path: b"x".to_vec(),
            kind: FileKind::File { size, segments },
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified: (0, 0),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn segments_ascend_within_the_file() {
        for (size, segments, stored) in [
            (7, None, Some(7)),
            (u64::MAX, None, Some(u64::MAX)),
            (100, Some(vec![]), Some(0)),
            (100, Some(vec![(0, 5), (95, 5)]), Some(10)),
            (100, Some(vec![(0, 5), (4, 5)]), None),
            (100, Some(vec![(96, 5)]), None),
            (u64::MAX, Some(vec![(u64::MAX, 5)]), None),
        ] {
            assert_eq!(file(size, segments.clone()).stored_bytes(), stored, "{segments:?}");
        }
        assert_eq!(FileEntry { kind: FileKind::Folder, ..file(0, None) }.stored_bytes(), Some(0));
    }

    #[test]
    fn failures_do_not_speak_to_terminals() {
        let failure = FileFailure::NotFound { path: b"/a\x1b[2J\n\xff".to_vec() };
        assert_eq!(failure.to_string(), "no such file or directory: \"/a\\u{1b}[2J\\n\u{fffd}\"");
        let failure = FileFailure::Overwrite { path: b"d".to_vec(), is_folder: false };
        assert_eq!(failure.to_string(), "cannot overwrite directory with non-directory: \"d\"");
    }
}
