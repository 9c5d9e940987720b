//! A program of the host that speaks frames on a socket: each behind its length in four bytes, the highest
//! first, and without a virtio header (passt(1), `--fd`).
#![allow(unsafe_code, reason = "the guest's memory is shared, so no slice of it may exist")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use libc::iovec;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vm_memory::VolatileSlice;

use super::{ETHERNET_BYTES, FRAME_BYTES, HEADER_BYTES};
use crate::virtio::buffer::{Buffer, MAX_PARTS, io_vector};

/// What is ahead of each frame.
const LENGTH_BYTES: usize = 4;
/// The header that the guest wants ahead of a frame.
const HEADER: usize = 12;
/// The shortest frame and the longest, in bytes.
const SHORTEST: usize = 14;
const LONGEST: usize = 65_550;
/// What is read at once at most: a few frames, and no less than the longest.
const BUFFER_BYTES: usize = 128 << 10;
/// Where `flags` and `gso_type` lie in the header, and the flag for a checksum to be computed (5.1.6).
const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const NEEDS_CSUM: u8 = 1;

const _: () = {
    assert!(HEADER as u64 == HEADER_BYTES && SHORTEST as u64 == ETHERNET_BYTES);
    assert!((HEADER + LONGEST) as u64 == FRAME_BYTES);
    assert!(BUFFER_BYTES >= HEADER + LONGEST && HEADER >= LENGTH_BYTES);
};

/// The socket, with what is half read and half sent.
#[derive(Debug)]
pub(super) struct Stream {
    socket: UnixStream,
    /// Whether the other end is gone, or has lost its place among its own lengths.
    is_over: bool,
    /// What has arrived lies in `incoming[start..end]`; there is room for a header ahead of a frame.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// What is left of a frame that had room for a part of it only.
    rest: Vec<u8>,
}

impl Stream {
    /// Over a socket that nothing was read from.
    pub(super) fn new(socket: UnixStream) -> Self {
        let (start, end) = (HEADER, HEADER);
        Self { socket, is_over: false, incoming: Vec::new(), start, end, rest: Vec::new() }
    }

    /// Makes the room that a device at work needs.
    ///
    /// # Errors
    /// When the host refuses.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.incoming.resize(BUFFER_BYTES, 0);
        self.socket.set_nonblocking(true)
    }

    /// Whether something waits for room.
    pub(super) fn is_blocked(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Sends what is left of the last frame; whether that is all out.
    pub(super) fn is_clear(&mut self) -> bool {
        while !self.rest.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, &self.rest, flags) {
                Ok(sent) => drop(self.rest.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => {
                    self.rest.clear();
                    self.hang_up();
                }
            }
        }
        true
    }

    /// Sends a frame, or begins to. One that asks for more than to be sent is lost, and so are all once
    /// nobody listens.
    pub(super) fn write(&mut self, mut frame: Buffer<'_>) {
        let header = frame.take(HEADER_BYTES).to_vec(HEADER);
        let asks = header[FLAGS] & NEEDS_CSUM != 0 || header[GSO_TYPE] != 0;
        // The length is a part too.
        if asks || self.is_over || frame.slices().count() >= MAX_PARTS {
            return;
        }
        let length = u32::try_from(frame.len()).expect("a frame is short").to_be_bytes();
        match self.send_with(&length, &frame) {
            Ok(sent) => self.keep(&length, frame, sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep(&length, frame, 0),
            Err(_) => self.hang_up(),
        }
    }

    /// The room that the next frame needs, with its header; none when it is not all there.
    pub(super) fn next_bytes(&mut self) -> Option<u64> {
        loop {
            let frame = self.incoming[self.start..self.end].split_first_chunk();
            if let Some((length, frame)) = frame {
                let length = u32::from_be_bytes(*length) as usize;
                if length > LONGEST {
                    self.hang_up();
                    return None;
                }
                if length <= frame.len() {
                    if length >= SHORTEST {
                        return Some((HEADER + length) as u64);
                    }
                    self.start += LENGTH_BYTES + length;
                    continue;
                }
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Copies the frame that [`next_bytes`](Self::next_bytes) has found, and gives its length with its
    /// header, which is greater than the room if it was cut off.
    pub(super) fn read<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a VolatileSlice<'a>>,
    ) -> Option<usize> {
        let length = usize::try_from(self.next_bytes()?).expect("a frame is short");
        // The header overlays the length, and what was read before.
        let begin = self.start + LENGTH_BYTES - HEADER;
        self.start = begin + length;
        self.incoming[begin..begin + HEADER].fill(0);
        let mut left = &self.incoming[begin..self.start];
        for part in parts {
            let (now, later) = left.split_at(left.len().min(part.len()));
            part.copy_from(now);
            left = later;
            if left.is_empty() {
                break;
            }
        }
        Some(length)
    }

    /// Reads more; whether there was more.
    fn fill(&mut self) -> bool {
        if self.is_over {
            return false;
        }
        let room = LENGTH_BYTES + LONGEST;
        if self.start == self.end || self.incoming.len() - self.start < room {
            self.incoming.copy_within(self.start..self.end, HEADER);
            (self.start, self.end) = (HEADER, HEADER + self.end - self.start);
        }
        loop {
            match recv(&self.socket, &mut self.incoming[self.end..], RecvFlags::DONTWAIT) {
                Ok((count, _)) if count > 0 => {
                    self.end += count;
                    return true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Ok(_) | Err(_) => {
                    self.hang_up();
                    return false;
                }
            }
        }
    }

    /// Sends the length and the frame, as far as there is room.
    fn send_with(&self, length: &[u8; LENGTH_BYTES], frame: &Buffer<'_>) -> io::Result<usize> {
        let first = iovec { iov_base: length.as_ptr().cast_mut().cast(), iov_len: LENGTH_BYTES };
        let mut parts: Vec<_> = std::iter::once(first).chain(io_vector(frame.slices())).collect();
        // SAFETY: all bytes zero is a message of nothing to nobody.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the parts are the length, which is only read, and guest memory that is mapped as long
        // as the slices borrow it; both outlive the call.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, flags) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent.unsigned_abs()) }
    }

    /// Keeps what was not sent, for when there is room.
    fn keep(&mut self, length: &[u8], mut frame: Buffer<'_>, sent: usize) {
        let (length_sent, frame_sent) = (sent.min(LENGTH_BYTES), sent.saturating_sub(LENGTH_BYTES));
        frame.take(frame_sent as u64);
        self.rest.extend_from_slice(&length[length_sent..]);
        self.rest.extend(frame.to_vec(LONGEST));
    }

    /// Neither hears nor begins anything any more. What was begun goes on: it is of no use in part.
    fn hang_up(&mut self) {
        self.is_over = true;
        (self.start, self.end) = (HEADER, HEADER);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
