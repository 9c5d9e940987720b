//! The entries of a stream as a tar, and those of a tar as entries for a stream.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use images::tar::{Entry, Kind, Segment, Timestamp, Writer};
use protocol::{FileEntry, FileFailure, FileItem, FileKind};
use trees::{Items, StreamError, below};

use crate::voice::say;

/// What is made of an entry's bytes at once.
const PIECE_BYTES: u64 = 64 << 10;

/// The entries that come on a stream, read as a tar. It fails unless the stream comes to a good end:
/// half a tree never looks like a whole one.
pub(super) struct Archive {
    /// Closed as soon as everything was read.
    items: Option<Items<UnixStream>>,
    writer: Writer<Vec<u8>>,
    /// How much of what was written last has been read.
    taken: usize,
    /// The name of the source in the tar; empty for the content of a folder.
    name: Vec<u8>,
    /// The stored bytes that may still come.
    allowance: u64,
    failure: Option<ArchiveError>,
}

/// Why a stream makes no archive.
pub(super) enum ArchiveError {
    /// The stream's own failure.
    Stream(StreamError),
    /// It goes on for longer than it can.
    TooMuch,
}

impl From<StreamError> for ArchiveError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl From<FileFailure> for ArchiveError {
    fn from(failure: FileFailure) -> Self {
        Self::Stream(failure.into())
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error.into())
    }
}

impl Archive {
    /// Of what comes on `items`, no more than `allowance` stored bytes of it.
    pub(super) fn new(items: Items<UnixStream>, name: Vec<u8>, allowance: u64) -> Self {
        let writer = Writer::new(Vec::new());
        Self { items: Some(items), writer, taken: 0, name, allowance, failure: None }
    }

    /// Why reading has failed, if that was the stream's fault.
    pub(super) fn take_failure(&mut self) -> Option<ArchiveError> {
        self.failure.take()
    }

    /// Writes the next piece of the tar; nothing more when it was the last.
    fn fill(&mut self) -> Result<(), ArchiveError> {
        let Some(items) = &mut self.items else { return Ok(()) };
        if items.left() > 0 {
            let piece = items.left().min(PIECE_BYTES);
            self.allowance = self.allowance.checked_sub(piece).ok_or(ArchiveError::TooMuch)?;
            return Ok(self.writer.copy(items, piece)?);
        }
        match items.next_item()? {
            FileItem::Entry(entry) => {
                if let Some(entry) = tar_entry(entry, &self.name)? {
                    self.writer.append(&entry)?;
                }
            }
            FileItem::LeftOut { path, reason } => say_left_out(&path, &reason),
            FileItem::Done => {
                self.items = None;
                self.writer.end()?;
            }
            _ => return Err(StreamError::Unexpected.into()),
        }
        Ok(())
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let written = self.writer.output();
            let count = buffer.len().min(written.len() - self.taken);
            if count > 0 {
                buffer[..count].copy_from_slice(&written[self.taken..self.taken + count]);
                self.taken += count;
                return Ok(count);
            }
            written.clear();
            self.taken = 0;
            if self.items.is_none() || buffer.is_empty() {
                return Ok(0);
            }
            if let Err(error) = self.fill() {
                self.items = None;
                self.failure = Some(error);
                return Err(io::Error::other("the container's files have ended too early"));
            }
        }
    }
}

/// Tells a person what does not come along.
pub(super) fn say_left_out(path: &[u8], reason: &str) {
    let reason: String = reason.chars().filter(|letter| !letter.is_control()).collect();
    say("warning", format_args!("{} is left out: {reason}", trees::shown(path)));
}

/// An entry as a tar has it; none for a folder whose content alone is meant.
fn tar_entry(entry: FileEntry, name: &[u8]) -> Result<Option<Entry>, FileFailure> {
    let path = below(name, &entry.path)?;
    if path.is_empty() && entry.kind != FileKind::Folder {
        return Err(FileFailure::Unsound { path });
    }
    let kind = match entry.kind {
        FileKind::File { size, segments: None } => Kind::File { size },
        FileKind::File { size, segments: Some(segments) } => {
            let segments = segments.into_iter();
            let segments = segments.map(|(offset, length)| Segment { offset, length }).collect();
            Kind::SparseFile { size, segments }
        }
        FileKind::Folder => Kind::Directory,
        FileKind::Link { target } => Kind::Symlink { target },
        FileKind::SameAs { path } => Kind::HardLink { target: below(name, &path)? },
        FileKind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
        FileKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        FileKind::Fifo => Kind::Fifo,
    };
    let (seconds, nanoseconds) = entry.modified;
    let mtime = Timestamp { seconds, nanoseconds };
    let FileEntry { mode, uid, gid, xattrs, .. } = entry;
    Ok(Some(Entry { path, kind, mode: mode & 0o7777, uid, gid, mtime, xattrs }))
}

/// An entry of a tar as a stream has it; none for what is no file.
pub(super) fn stream_entry(entry: Entry) -> Option<FileEntry> {
    let kind = match entry.kind {
        Kind::File { size } => FileKind::File { size, segments: None },
        Kind::SparseFile { size, segments } => {
            let segments = segments.iter().map(|one| (one.offset, one.length)).collect();
            FileKind::File { size, segments: Some(segments) }
        }
        Kind::Directory => FileKind::Folder,
        Kind::Symlink { target } => FileKind::Link { target },
        Kind::HardLink { target } => FileKind::SameAs { path: plain(&target) },
        Kind::CharDevice { major, minor } => FileKind::CharDevice { major, minor },
        Kind::BlockDevice { major, minor } => FileKind::BlockDevice { major, minor },
        Kind::Fifo => FileKind::Fifo,
        Kind::Other { .. } => return None,
    };
    let modified = (entry.mtime.seconds, entry.mtime.nanoseconds);
    let Entry { path, mode, uid, gid, xattrs, .. } = entry;
    Some(FileEntry { path: plain(&path), kind, mode, uid, gid, modified, xattrs })
}

/// A path without `.` and doubled slashes, as archives have them.
fn plain(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn entry(path: &str, kind: FileKind) -> FileEntry {
        FileEntry {
            path: path.into(),
            kind,
            mode: 0o644,
            uid: 1,
            gid: 2,
            modified: (1, 2),
            xattrs: vec![(b"user.x".to_vec(), b"y".to_vec())],
        }
    }

    /// What is made of a stream that is as long as it is written here.
    fn archive(said: &[(FileItem, &[u8])], allowance: u64) -> (io::Result<Vec<u8>>, Archive) {
        let (near, mut far) = UnixStream::pair().unwrap();
        for (item, bytes) in said {
            protocol::write(&mut far, item).unwrap();
            far.write_all(bytes).unwrap();
        }
        drop(far);
        let mut archive = Archive::new(Items::new(near), b"top".to_vec(), allowance);
        let mut bytes = Vec::new();
        let read = archive.read_to_end(&mut bytes);
        (read.map(|_| bytes), archive)
    }

    fn file(path: &str, size: u64) -> FileItem {
        FileItem::Entry(entry(path, FileKind::File { size, segments: None }))
    }

    #[test]
    fn entries_come_back_as_they_went() {
        let kinds = [
            FileKind::Folder,
            FileKind::File { size: 3, segments: None },
            FileKind::File { size: 1 << 40, segments: Some(vec![(5, 3)]) },
            FileKind::Link { target: b"../x".to_vec() },
            FileKind::CharDevice { major: 1, minor: 3 },
            FileKind::Fifo,
        ];
        let entries: Vec<_> =
            kinds.into_iter().enumerate().map(|(at, kind)| entry(&at.to_string(), kind)).collect();
        let mut said: Vec<_> = entries
            .iter()
            .map(|entry| {
                let bytes: &[u8] = if entry.stored_bytes() == Some(3) { b"abc" } else { b"" };
                (FileItem::Entry(entry.clone()), bytes)
            })
            .collect();
        said.push((FileItem::Done, b""));
        let bytes = archive(&said, 6).0.unwrap();
        let mut reader = images::tar::read(&bytes[..]).unwrap();
        for mut wanted in entries {
            let mut found = stream_entry(reader.next_entry().unwrap().unwrap()).unwrap();
            wanted.path.splice(0..0, *b"top/");
            if let FileKind::File { segments: Some(segments), .. } = &mut found.kind {
                segments.retain(|(_, length)| *length > 0);
            }
            assert_eq!(found, wanted);
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, wanted.stored_bytes().unwrap());
        }
        assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn half_a_stream_is_no_archive() {
        let failed = FileItem::Failed(FileFailure::FolderToFile);
        for said in [
            &[(file("a", 3), &b"abc"[..])][..],
            &[(file("a", 3), b"ab")],
            &[(failed, b"")],
            &[(FileItem::Ready, b""), (FileItem::Done, b"")],
            &[(file("../a", 3), b"abc"), (FileItem::Done, b"")],
            &[],
        ] {
            let (read, mut archive) = archive(said, 100);
            assert!(read.is_err(), "{said:?}");
            assert!(matches!(archive.take_failure(), Some(ArchiveError::Stream(_))), "{said:?}");
        }
        let said = [(file("a", 3), &b"abc"[..]), (file("b", 3), b"abc"), (FileItem::Done, b"")];
        assert!(archive(&said, 6).0.is_ok());
        let (read, mut archive) = archive(&said, 5);
        assert!(read.is_err());
        assert!(matches!(archive.take_failure(), Some(ArchiveError::TooMuch)));
    }

    #[test]
    fn paths_of_archives_are_plain() {
        for (path, wanted) in
            [("./a/b/", "a/b"), ("/a//b", "a/b"), ("./", ""), ("a/../b", "a/../b")]
        {
            assert_eq!(plain(path.as_bytes()), wanted.as_bytes(), "{path}");
        }
    }
}
