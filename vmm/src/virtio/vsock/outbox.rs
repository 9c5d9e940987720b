//! Bytes of the guest on their way into a Unix socket, kept while it takes no more.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::{SendFlags, send};
use vm_memory::{GuestMemoryError, WriteVolatile};

use super::connection::{Payload, retry};

/// How many bytes are copied from the guest at a time.
const COPY_BYTES: usize = 8 << 10;

/// The bytes that the socket has not taken yet. Whoever adds to them bounds them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: VecDeque<u8>,
    /// The socket took no more and has not become writable since.
    blocked: bool,
}

/// What became of bytes. Either way they are off our hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The socket took so many.
    Taken(u32),
    /// Nobody reads from the socket any more: everything was given up, so many bytes.
    Lost(u32),
}

impl Outbox {
    /// Whether the socket has taken everything.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The socket has become writable.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Throws everything away and says how many bytes that were.
    pub(super) fn clear(&mut self) -> u32 {
        let count = self.bytes.len();
        self.bytes = VecDeque::new();
        count_of(count)
    }

    /// Takes the first `len` bytes of a payload, straight into the socket as far as that goes.
    pub(super) fn accept(
        &mut self,
        stream: &UnixStream,
        len: u32,
        payload: Payload<'_>,
    ) -> Result<Delivery, GuestMemoryError> {
        let mut done = 0;
        if self.is_empty() && !self.blocked {
            for slice in payload.buffers.payload(payload.memory, 0, len as usize) {
                let slice = slice?;
                match retry(|| (&*stream).write_volatile(&slice)) {
                    Ok(count) => {
                        done += count;
                        if count < slice.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.blocked = true;
                        break;
                    }
                    Err(_) => return Ok(Delivery::Lost(len)),
                }
            }
        }
        self.keep(done, len as usize - done, payload)?;
        // A short write says nothing about the next one: the socket must say that it is full.
        Ok(match self.flush(stream) {
            Delivery::Taken(count) => Delivery::Taken(count_of(done) + count),
            Delivery::Lost(count) => Delivery::Lost(count_of(done) + count),
        })
    }

    /// Gives the socket what it takes.
    pub(super) fn flush(&mut self, stream: &UnixStream) -> Delivery {
        let before = self.bytes.len();
        while !self.is_empty() && !self.blocked {
            let (front, _) = self.bytes.as_slices();
            match send_some(stream, front) {
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(_) => {
                    self.clear();
                    return Delivery::Lost(count_of(before));
                }
            }
        }
        let taken = count_of(before - self.bytes.len());
        if self.is_empty() {
            // An idle connection holds no memory.
            self.bytes = VecDeque::new();
        }
        Delivery::Taken(taken)
    }

    fn keep(
        &mut self,
        skip: usize,
        count: usize,
        payload: Payload<'_>,
    ) -> Result<(), GuestMemoryError> {
        let mut copied = [0; COPY_BYTES];
        for slice in payload.buffers.payload(payload.memory, skip, count) {
            let mut slice = slice?;
            while !slice.is_empty() {
                let length = slice.copy_to(&mut copied);
                self.bytes.extend(&copied[..length]);
                slice = slice.offset(length)?;
            }
        }
        Ok(())
    }
}

/// Writes once, without waiting and without a signal when nobody reads any more.
pub(super) fn send_some(stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send(stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

fn count_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("credit bounds what a connection holds to less than 4 GiB")
}
