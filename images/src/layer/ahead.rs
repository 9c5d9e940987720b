//! Reads a stream ahead on a thread of its own, so that each step of unpacking has its own processor.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use crate::compression::read_up_to;

/// Bytes that are handed over at once.
///
/// The decompressor moves its window of 32 KiB at each buffer's end, so larger is faster.
const BUFFER: usize = 256 << 10;

/// Buffers that may wait for the reader.
const WAITING: usize = 4;

/// The near end: what the thread has read, in its order.
pub(super) struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    taken: usize,
}

/// Starts reading `input` to its end or first error. The thread gives it back then, or soon after the
/// near end is dropped.
pub(super) fn ahead<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut input: R,
) -> (Ahead, ScopedJoinHandle<'scope, R>) {
    let (filled, full) = sync_channel(WAITING);
    let (empty, emptied) = sync_channel::<Vec<u8>>(WAITING);
    let thread = scope.spawn(move || {
        loop {
            let mut buffer = emptied.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let (count, error) = fill(&mut input, &mut buffer);
            buffer.truncate(count);
            let at_end = count < BUFFER;
            if (count > 0 && filled.send(Ok(buffer)).is_err()) || at_end {
                // Whoever does not listen any more wants no error either.
                let _ = error.map(|error| filled.send(Err(error)));
                return input;
            }
        }
    });
    (Ahead { full, empty, current: Vec::new(), taken: 0 }, thread)
}

/// Reads until the buffer is full; what came before an error counts.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut counted = Counted { input, count: 0 };
    let error = read_up_to(&mut counted, buffer).err();
    (counted.count, error)
}

struct Counted<'a, R> {
    input: &'a mut R,
    count: usize,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count += count;
        Ok(count)
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.current.len() {
            // Where the channel is full or closed, the buffer is simply not used again.
            let _ = self.empty.try_send(std::mem::take(&mut self.current));
            self.taken = 0;
            // A sender that has gone is the end.
            self.current = self.full.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
        }
        Ok(&self.current[self.taken..])
    }

    fn consume(&mut self, count: usize) {
        self.taken += count;
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_in_order_and_the_stream_comes_back() {
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut out = Vec::new();
        std::thread::scope(|scope| {
            let (mut near, thread) = ahead(scope, &bytes[..]);
            near.read_to_end(&mut out).unwrap();
            assert!(thread.join().unwrap().is_empty());
        });
        assert!(out == bytes);
    }

    #[test]
    fn what_came_before_an_error_comes_first() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        std::thread::scope(|scope| {
            let (mut near, _thread) = ahead(scope, (&b"some"[..]).chain(Fails));
            let mut out = Vec::new();
            assert_eq!(near.read_to_end(&mut out).unwrap_err().to_string(), "broken");
            assert_eq!(out, b"some");
        });
    }

    #[test]
    fn a_reader_that_leaves_stops_the_thread() {
        std::thread::scope(|scope| {
            let (near, thread) = ahead(scope, io::repeat(0));
            drop(near);
            let _endless = thread.join().unwrap();
        });
    }
}
