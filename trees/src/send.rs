//! Sends entries: those of a whole tree, or one by one for whoever chooses among them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use protocol::{FileEntry, FileFailure, FileItem, FileKind, FrameError};
use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;

use crate::contents::PIECE_BYTES;
use crate::metadata::{Found, folder_itself, look};
use crate::source::{Source, Top};
use crate::stream::StreamError;
use crate::walk::{Place, Walk};
use crate::{reason, step};

/// What is written at once, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// The most that is remembered of what was left out.
const MAX_LEFT_OUT: usize = 1000;

/// Sends items to `W`.
#[derive(Debug)]
pub struct Sender<W: Write> {
    output: BufWriter<W>,
    /// The first path of each file that has several names, by its device and inode.
    seen: HashMap<(u64, u64), Vec<u8>>,
    /// What has gone out, in bytes as a tar counts them.
    sent: u64,
    left_out: Vec<(Vec<u8>, String)>,
}

/// What has become of a name that was to be sent.
#[derive(Debug)]
pub enum Sent {
    /// It was; and this is what it is.
    Yes(Box<Stat>),
    /// It was not: it has vanished, or cannot be sent.
    No,
}

impl<W: Write> Sender<W> {
    /// A sender to `output`.
    pub fn new(output: W) -> Self {
        let output = BufWriter::with_capacity(BUFFER_BYTES, output);
        Self { output, seen: HashMap::new(), sent: 0, left_out: Vec::new() }
    }

    /// Sends one item.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn item(&mut self, item: &FileItem) -> Result<(), FrameError> {
        protocol::write(&mut self.output, item)
    }

    /// Sends an entry that somebody else has read, and its bytes.
    ///
    /// # Errors
    /// When the other side is gone, or the bytes end too early.
    pub fn entry(&mut self, entry: FileEntry, content: &mut impl Read) -> Result<(), StreamError> {
        let length = entry.stored_bytes().ok_or(StreamError::Unexpected)?;
        self.sent += 512 + length.next_multiple_of(512);
        self.item(&FileItem::Entry(entry))?;
        Ok(crate::copy_exactly(content, &mut self.output, length)?)
    }

    /// Says the last thing, and that nothing more will come.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn finish(&mut self, last: &FileItem) -> Result<(), FrameError> {
        self.item(last)?;
        self.flush()
    }

    /// Lets all that was sent go out now.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn flush(&mut self) -> Result<(), FrameError> {
        self.output.flush().map_err(FrameError::Connection)
    }

    /// What was written to, after all has gone out.
    #[cfg(test)]
    pub(crate) fn into_inner(self) -> W
    where
        W: std::fmt::Debug,
    {
        self.output.into_inner().expect("it takes everything")
    }

    /// How much was sent, in bytes as a tar counts them.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends all of a source, its own entry with an empty path first.
    ///
    /// # Errors
    /// When the other side is gone, or the source itself cannot be read.
    pub fn tree(&mut self, source: &Source) -> Result<(), StreamError> {
        let told = source.path.as_os_str();
        let failed = |error: Errno| step(format!("read {}", told.display()), error);
        match &source.top {
            Top::Other { parent, name } => match look(parent.as_fd(), name).map_err(failed)? {
                Some(found) => self.found(found, &[]),
                None => {
                    let path = std::os::unix::ffi::OsStrExt::as_bytes(told).to_vec();
                    Err(FileFailure::Socket { path }.into())
                }
            },
            Top::Folder(folder) => {
                self.found(folder_itself(folder.as_fd()).map_err(failed)?, &[])?;
                let mut walk = Walk::new(folder.as_fd()).map_err(failed)?;
                while let Some(place) = walk.next_place() {
                    let path = place.path.clone();
                    let Sent::Yes(stat) = self.place(&place)? else { continue };
                    if is_folder(&stat)
                        && let Err(error) = walk.enter(&path)
                    {
                        self.leave_out(&path, &reason(&error.into()))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Sends what lies at a place of a walk, or why it is left out.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn place(&mut self, place: &Place<'_>) -> Result<Sent, StreamError> {
        self.place_filtered(place, |_| {})
    }

    /// The same, of an entry that is changed on its way.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn place_filtered(
        &mut self,
        place: &Place<'_>,
        change: impl FnOnce(&mut FileEntry),
    ) -> Result<Sent, StreamError> {
        match look(place.folder, &place.name) {
            Ok(Some(mut found)) => {
                let stat = Box::new(found.stat);
                change(&mut found.entry);
                self.found(found, &place.path)?;
                Ok(Sent::Yes(stat))
            }
            Ok(None) => self.leave_out(&place.path, "it is a socket").map(|()| Sent::No),
            Err(Errno::NOENT) => Ok(Sent::No),
            Err(error) => self.leave_out(&place.path, &reason(&error.into())).map(|()| Sent::No),
        }
    }

    /// Sends the entry of an open folder, changed on its way.
    ///
    /// # Errors
    /// When the other side is gone, or it cannot be read.
    pub fn folder(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &[u8],
        change: impl FnOnce(&mut FileEntry),
    ) -> Result<(), StreamError> {
        let mut found = folder_itself(folder).map_err(|error| step("read a folder", error))?;
        change(&mut found.entry);
        self.found(found, path)
    }

    /// Says that something does not come along.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn leave_out(&mut self, path: &[u8], reason: &str) -> Result<(), StreamError> {
        let (path, reason) = (path.to_vec(), reason.to_owned());
        self.item(&FileItem::LeftOut { path: path.clone(), reason: reason.clone() })?;
        if self.left_out.len() < MAX_LEFT_OUT {
            self.left_out.push((path, reason));
        }
        Ok(())
    }

    /// What has not come along, and why; no more than a person would read.
    #[must_use]
    pub fn left_out(&self) -> &[(Vec<u8>, String)] {
        &self.left_out
    }

    fn found(&mut self, found: Found, path: &[u8]) -> Result<(), StreamError> {
        let Found { mut entry, stat, content } = found;
        entry.path = path.to_vec();
        if stat.st_nlink > 1 && entry.kind != FileKind::Folder {
            let first = self.seen.get(&(stat.st_dev, stat.st_ino));
            if let Some(first) = first {
                entry.kind = FileKind::SameAs { path: first.clone() };
                entry.xattrs.clear();
                return self.entry(entry, &mut std::io::empty());
            }
            self.seen.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match (&entry.kind, content) {
            (FileKind::File { size, segments }, Some(file)) => {
                let (size, segments) = (*size, segments.clone());
                let mut content = Content::new(File::from(file), size, segments);
                self.entry(entry, &mut content)?;
                match content.failure {
                    None => Ok(()),
                    Some(error) => Err(step(format!("read {}", crate::shown(path)), error).into()),
                }
            }
            _ => self.entry(entry, &mut std::io::empty()),
        }
    }
}

/// Whether this is a folder.
fn is_folder(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
}

/// The bytes of a file that its entry has promised: what it has lost meanwhile is zeros.
struct Content {
    file: File,
    /// The pieces that are left, the first one last.
    pieces: Vec<(u64, u64)>,
    /// Bytes that are left of the piece at hand.
    left: u64,
    /// Why something could not be read; the stream goes on in step all the same.
    failure: Option<std::io::Error>,
}

impl Content {
    fn new(file: File, size: u64, segments: Option<Vec<(u64, u64)>>) -> Self {
        let mut pieces = segments.unwrap_or_else(|| vec![(0, size)]);
        pieces.reverse();
        Self { file, pieces, left: 0, failure: None }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let Some((offset, length)) = self.pieces.pop() else { return Ok(0) };
            seek(&self.file, SeekFrom::Start(offset))?;
            self.left = length;
        }
        let wanted = usize::try_from(self.left).unwrap_or(PIECE_BYTES).min(buffer.len());
        let count = match self.file.read(&mut buffer[..wanted]) {
            Ok(count) if count > 0 => count,
            ended => {
                self.failure = self.failure.take().or(ended.err());
                buffer[..wanted].fill(0);
                wanted
            }
        };
        self.left -= count as u64;
        Ok(count)
    }
}
