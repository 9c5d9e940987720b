//! Readers that hash, count and copy what passes through them.

use std::fs::File;
use std::io::{self, Read, Write};

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

/// Hashes and counts the decompressed stream.
pub(super) struct Plain<'a, R> {
    pub(super) input: R,
    pub(super) hasher: Hasher,
    pub(super) budget: &'a Budget,
    pub(super) exceeded: bool,
}

impl<R: Read> Read for Plain<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        if !self.budget.take_bytes(count as u64) {
            self.exceeded = true;
            return Err(io::Error::other("more bytes than the limit allows"));
        }
        Ok(count)
    }
}
