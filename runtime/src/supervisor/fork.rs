//! A fork in the way of output: the kernel gives bytes to the pipe of somebody who is attached, and the
//! same bytes are read for the log. They are copied once, where a read and a write would do it twice.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};

/// A pipe in which bytes wait until they have gone both ways.
pub(super) struct Fork {
    reading: OwnedFd,
    writing: OwnedFd,
    held: usize,
}

/// What came of it when bytes were to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// They all went.
    All,
    /// There was no room for all.
    Some,
    /// Nobody takes any.
    None,
}

impl Fork {
    /// One that holds nothing, and `bytes` at most.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // As it is, where this user has too many of them.
        let _ = fcntl_setpipe_size(&writing, bytes);
        Ok(Self { reading, writing, held: 0 })
    }

    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what has come from `source`, up to `bytes`; nothing at its end.
    pub(super) fn fill(&mut self, source: &impl AsFd, bytes: usize) -> Result<usize, Errno> {
        let count = splice(source, None, &self.writing, None, bytes, SpliceFlags::NONBLOCK)?;
        self.held += count;
        Ok(count)
    }

    /// Gives `sink` what it has room for, and copies the same bytes to the beginning of `copy`, which has
    /// room for all that was filled in: how many there are.
    pub(super) fn pass(&mut self, sink: &impl AsFd, copy: &mut [u8]) -> (usize, Passed) {
        let mut done = 0;
        while self.held > 0 {
            match tee(&self.reading, sink, self.held, SpliceFlags::NONBLOCK) {
                Ok(0) | Err(Errno::AGAIN) => return (done, Passed::Some),
                Ok(count) => {
                    self.read(&mut copy[done..done + count]);
                    done += count;
                }
                Err(Errno::INTR) => {}
                Err(_) => return (done, Passed::None),
            }
        }
        (done, Passed::All)
    }

    /// All that it holds.
    pub(super) fn into_held(mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.held];
        self.read(&mut bytes);
        bytes
    }

    /// Takes the next bytes out, which are there.
    fn read(&mut self, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let read = retry_on_intr(|| rustix::io::read(&self.reading, &mut bytes[done..]));
            done += read.expect("both ends of the pipe are ours, and so many bytes are in it");
        }
        self.held -= bytes.len();
    }
}
