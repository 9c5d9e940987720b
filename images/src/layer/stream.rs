//! Readers that hash, count and copy what passes through them.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};

use crate::compression::{Compression, read_up_to};
use crate::digest::{Digest, Hasher};

/// Hashes the bytes of a blob on their way, and copies them into a file.
pub(super) struct Tee<'a, R> {
    pub(super) input: R,
    pub(super) hasher: Hasher,
    pub(super) taken: u64,
    copy: Option<&'a File>,
    copy_error: Option<io::Error>,
}

impl<'a, R: Read> Tee<'a, R> {
    pub(super) fn new(input: R, copy: Option<&'a File>) -> Tee<'a, R> {
        Tee { input, hasher: Hasher::default(), taken: 0, copy, copy_error: None }
    }

    pub(super) fn finish(self) -> io::Result<(Digest, u64)> {
        match self.copy_error {
            Some(error) => Err(error),
            None => Ok((self.hasher.finish(), self.taken)),
        }
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.taken += count as u64;
        if let Some(mut copy) = self.copy
            && self.copy_error.is_none()
        {
            // Kept apart, so that a full disk is not taken for a broken layer.
            self.copy_error = copy.write_all(&buffer[..count]).err();
        }
        Ok(count)
    }
}

/// A shared way into the tee: the decompressor reads its part, the caller the rest. Notes on the
/// way how the blob is compressed.
pub(super) struct Sniffed<'a, 'b, R> {
    pub(super) tee: &'a RefCell<Tee<'b, R>>,
    pub(super) media_type: &'a mut &'static str,
    pub(super) first: bool,
}

impl<R: Read> Read for Sniffed<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut tee = self.tee.borrow_mut();
        if !self.first {
            return tee.read(buffer);
        }
        self.first = false;
        let count = read_up_to(&mut *tee, buffer)?;
        *self.media_type = Compression::of(&buffer[..count]).layer_media_type();
        Ok(count)
    }
}

/// Hashes and counts the decompressed stream.
pub(super) struct Plain<R> {
    pub(super) input: R,
    pub(super) hasher: Hasher,
    pub(super) taken: u64,
    pub(super) limit: u64,
    pub(super) exceeded: bool,
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.taken += count as u64;
        if self.taken > self.limit {
            self.exceeded = true;
            return Err(io::Error::other("more bytes than the limit allows"));
        }
        Ok(count)
    }
}
