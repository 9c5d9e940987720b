//! A request of the guest to a disk (virtio 1.2, 5.2.6): read from its chain, served, answered.

use std::io;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::super::buffer::Buffer;
use super::disk::Disk;
use super::{ID_BYTES, MAX_DISCARD_SECTORS, MAX_DISCARD_SEGMENTS, SECTOR_BYTES};
use crate::virtio::device::DeviceError;
use crate::virtio::queue::Chain;

/// Request types, 5.2.6.
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;

/// Answers, 5.2.6.
const STATUS_OK: u8 = 0;
const STATUS_IOERR: u8 = 1;
const STATUS_UNSUPP: u8 = 2;

/// `type`, `reserved`, `sector`.
const HEADER_BYTES: u32 = 16;
/// `struct virtio_blk_discard_write_zeroes`.
const RANGE_BYTES: usize = 16;
/// More data buffers than this are more than any driver was told to use.
const MAX_BUFFERS: usize = 1024;

/// A request, its place in memory checked, its meaning not yet.
#[derive(Debug)]
pub(crate) struct Request<'m> {
    memory: &'m GuestMemoryMmap,
    kind: u32,
    sector: u64,
    /// What the guest gives.
    input: Buffer<'m>,
    /// What the guest gets.
    output: Buffer<'m>,
    status: GuestAddress,
}

/// Which way the data of a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

/// What became of a request.
enum Outcome {
    /// It was done; this many bytes were given to the guest.
    Done(u64),
    /// There is no such request.
    Unsupported,
}

impl<'m> Request<'m> {
    /// Reads a request from its chain: a header, data, and a byte for the answer, each in buffers
    /// of their own.
    ///
    /// # Errors
    /// When the chain has another shape, since then there is no place for an answer.
    pub(crate) fn parse(
        memory: &'m GuestMemoryMmap,
        mut chain: Chain<'_>,
    ) -> Result<Self, DeviceError> {
        let broken = |what| DeviceError::Protocol { what };
        let header = chain.next().ok_or(broken("a request has no header"))?;
        if header.is_write_only() || header.len() != HEADER_BYTES {
            return Err(broken("a request's header is not one"));
        }
        let outside = |_| broken("a request is not in memory");
        let [kind, _, low, high]: [u32; 4] = memory.read_obj(header.addr()).map_err(outside)?;
        let mut last = chain.next().ok_or(broken("a request has no place for its answer"))?;
        let (mut input, mut output) = (Buffer::default(), Buffer::default());
        let mut buffers = 0;
        for next in chain {
            let data = std::mem::replace(&mut last, next);
            let direction = if data.is_write_only() { &mut output } else { &mut input };
            direction.push(memory, data.addr(), data.len()).map_err(outside)?;
            buffers += 1;
            if buffers > MAX_BUFFERS {
                return Err(broken("a request has too many buffers"));
            }
        }
        if !last.is_write_only() || last.len() != 1 || !memory_has(memory, last.addr()) {
            return Err(broken("a request has no place for its answer"));
        }
        let sector = u64::from(low) | (u64::from(high) << 32);
        Ok(Self { memory, kind: u32::from_le(kind), sector, input, output, status: last.addr() })
    }

    /// Which way its data goes; none for what costs the disk nothing.
    pub(crate) fn direction(&self) -> Option<Direction> {
        match self.kind {
            TYPE_IN => Some(Direction::Read),
            TYPE_OUT | TYPE_DISCARD | TYPE_WRITE_ZEROES => Some(Direction::Write),
            _ => None,
        }
    }

    /// The bytes that are read or written; what is only given back counts as none.
    pub(crate) fn bytes(&self) -> u64 {
        match self.kind {
            TYPE_IN => self.output.len(),
            TYPE_OUT => self.input.len(),
            _ => 0,
        }
    }

    /// Does what is asked, writes the answer, and gives the number of bytes written to the guest.
    ///
    /// # Errors
    /// When the answer cannot be written. A disk's errors are answers.
    pub(crate) fn serve(self, disk: &mut Disk, id: &[u8; ID_BYTES]) -> Result<u32, DeviceError> {
        let (memory, status) = (self.memory, self.status);
        let (answer, bytes) = match self.perform(disk, id) {
            Ok(Outcome::Done(bytes)) => (STATUS_OK, bytes),
            Ok(Outcome::Unsupported) => (STATUS_UNSUPP, 0),
            Err(_) => (STATUS_IOERR, 0),
        };
        memory
            .write_obj(answer, status)
            .map_err(|_| DeviceError::Protocol { what: "an answer's place is not in memory" })?;
        Ok(u32::try_from(bytes + 1).unwrap_or(u32::MAX))
    }

    fn perform(self, disk: &mut Disk, id: &[u8; ID_BYTES]) -> io::Result<Outcome> {
        match self.kind {
            TYPE_IN => {
                let bytes = self.output.len();
                disk.read(self.offset()?, self.output)?;
                Ok(Outcome::Done(bytes))
            }
            TYPE_OUT => {
                disk.write(self.offset()?, self.input)?;
                Ok(Outcome::Done(0))
            }
            TYPE_FLUSH => {
                disk.flush()?;
                Ok(Outcome::Done(0))
            }
            TYPE_GET_ID => Ok(Outcome::Done(self.output.fill_from(id) as u64)),
            // What has been discarded reads as zeros, which is one of the things it may read as.
            TYPE_DISCARD | TYPE_WRITE_ZEROES if disk.is_writable() => {
                for (offset, bytes) in ranges(&self.input)? {
                    disk.write_zeros(offset, bytes)?;
                }
                Ok(Outcome::Done(0))
            }
            _ => Ok(Outcome::Unsupported),
        }
    }

    fn offset(&self) -> io::Result<u64> {
        self.sector.checked_mul(u64::from(SECTOR_BYTES)).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Whether the byte at `address` is memory.
fn memory_has(memory: &GuestMemoryMmap, address: GuestAddress) -> bool {
    memory.read_obj::<u8>(address).is_ok()
}

/// The offsets and lengths in a discard request's data.
fn ranges(input: &Buffer<'_>) -> io::Result<Vec<(u64, u64)>> {
    let limit = MAX_DISCARD_SEGMENTS as usize * RANGE_BYTES;
    let bytes = input.to_vec(limit);
    if input.len() != bytes.len() as u64 || !bytes.len().is_multiple_of(RANGE_BYTES) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut ranges = Vec::with_capacity(bytes.len() / RANGE_BYTES);
    for range in bytes.chunks_exact(RANGE_BYTES) {
        let sector = u64::from_le_bytes(range[..8].try_into().expect("a range has 16 bytes"));
        let count = u32::from_le_bytes(range[8..12].try_into().expect("a range has 16 bytes"));
        if count > MAX_DISCARD_SECTORS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let offset =
            sector.checked_mul(u64::from(SECTOR_BYTES)).ok_or(io::ErrorKind::InvalidInput)?;
        ranges.push((offset, u64::from(count) * u64::from(SECTOR_BYTES)));
    }
    Ok(ranges)
}
