//! A stream of items as its reader sees it. What is on it may be a stranger's: every length is checked.

use std::io::{self, BufReader, Read};

use protocol::{FileEntry, FileFailure, FileItem, FrameError};
use thiserror::Error;

/// What is read at once, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Why a stream came to an end before it was done.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The other side says that it cannot.
    #[error(transparent)]
    Failed(#[from] FileFailure),
    /// The other side is gone, or cannot be understood.
    #[error(transparent)]
    Connection(#[from] FrameError),
    /// Something else was to come.
    #[error("the other side does not keep to the protocol")]
    Unexpected,
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Connection(FrameError::Connection(error))
    }
}

/// The items of a stream, and the bytes between them.
#[derive(Debug)]
pub struct Items<R> {
    input: BufReader<R>,
    /// Bytes of the entry at hand that were not read.
    left: u64,
}

impl<R: Read> Items<R> {
    /// The items that come from `input`.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(BUFFER_BYTES, input), left: 0 }
    }

    /// The next item. All bytes of the one before were read.
    ///
    /// # Errors
    /// When the other side has failed or is gone, or an entry makes no sense.
    pub fn next_item(&mut self) -> Result<FileItem, StreamError> {
        if self.left > 0 {
            return Err(StreamError::Unexpected);
        }
        match protocol::read(&mut self.input)? {
            FileItem::Failed(failure) => Err(failure.into()),
            FileItem::Entry(entry) => {
                self.left = stored_bytes(&entry)?;
                Ok(FileItem::Entry(entry))
            }
            item => Ok(item),
        }
    }

    /// The bytes of the entry at hand that were not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<R: Read> Read for Items<R> {
    /// Reads stored bytes of the entry at hand; a stream that ends among them is an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn stored_bytes(entry: &FileEntry) -> Result<u64, FileFailure> {
    entry.stored_bytes().ok_or_else(|| FileFailure::Unsound { path: entry.path.clone() })
}
