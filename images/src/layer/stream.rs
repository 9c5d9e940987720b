//! Readers that hash, count and copy what passes through them.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};

use super::ahead::Ahead;
use super::budget::Budget;
use super::writeback::Writeback;
use crate::digest::{Digest, Hasher};

/// Hashes the bytes of a blob on their way, and copies them into a file.
pub(super) struct Tee<'a, R> {
    pub(super) input: R,
    pub(super) hasher: Hasher,
    pub(super) taken: u64,
    copy: Option<&'a File>,
    writeback: Option<Writeback>,
    copy_error: Option<io::Error>,
}

impl<'a, R: Read> Tee<'a, R> {
    pub(super) fn new(
        input: R,
        copy: Option<&'a File>,
        writeback: Option<Writeback>,
    ) -> Tee<'a, R> {
        Tee { input, hasher: Hasher::default(), taken: 0, copy, writeback, copy_error: None }
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
            if let Some(writeback) = &mut self.writeback {
                writeback.grow(count);
            }
        }
        Ok(count)
    }
}

/// Hashes and counts the decompressed stream, each buffer when it comes.
pub(super) struct Plain<'a> {
    input: Ahead,
    hasher: Hasher,
    budget: &'a Budget,
    /// Bytes of the buffer that are hashed already and not taken yet.
    left: usize,
    exceeded: bool,
}

impl<'a> Plain<'a> {
    pub(super) fn new(input: Ahead, budget: &'a Budget) -> Plain<'a> {
        Plain { input, hasher: Hasher::default(), budget, left: 0, exceeded: false }
    }

    /// Whether there were more bytes than may be.
    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// The digest of all that came; what feeds the stream ends.
    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl BufRead for Plain<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.input.fill_buf()?;
        if self.left == 0 {
            self.hasher.update(bytes);
            self.left = bytes.len();
            self.exceeded |= !self.budget.take_bytes(bytes.len() as u64);
        }
        if self.exceeded {
            return Err(io::Error::other("more bytes than the limit allows"));
        }
        Ok(bytes)
    }

    fn consume(&mut self, count: usize) {
        self.left -= count;
        self.input.consume(count);
    }
}

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
