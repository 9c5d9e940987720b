//! Pipes through which the kernel moves bytes from socket to socket. A way holds one only while bytes
//! are in it that the other side has no room for.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// The most that is moved at once, in bytes; what an ordinary pipe holds.
const PIECE_BYTES: usize = 64 << 10;
/// How many empty ones are kept.
const MAX_IDLE: usize = 4;

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    reading: OwnedFd,
    writing: OwnedFd,
    held: usize,
}

/// Empty pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    idle: Vec<Pipe>,
}

impl Pipes {
    /// An empty one.
    pub(super) fn take(&mut self) -> Result<Pipe, Errno> {
        self.idle.pop().map_or_else(Pipe::new, Ok)
    }

    /// Keeps one for the next who needs it, if it is empty.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        if pipe.held == 0 && self.idle.len() < MAX_IDLE {
            self.idle.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> Result<Self, Errno> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { reading, writing, held: 0 })
    }

    /// How much is in it, in bytes.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes what `source` has, while there is nothing in it; nothing at its end.
    pub(super) fn fill(&mut self, source: &impl AsFd) -> Result<usize, Errno> {
        let count = move_bytes(source, &self.writing, PIECE_BYTES)?;
        self.held += count;
        Ok(count)
    }

    /// Gives `sink` what it has room for.
    pub(super) fn drain(&mut self, sink: &impl AsFd) -> Result<(), Errno> {
        while self.held > 0 {
            self.held -= move_bytes(&self.reading, sink, self.held)?;
        }
        Ok(())
    }
}

fn move_bytes(from: &impl AsFd, to: &impl AsFd, most: usize) -> Result<usize, Errno> {
    retry_on_intr(|| splice(from, None, to, None, most, SpliceFlags::NONBLOCK))
}
