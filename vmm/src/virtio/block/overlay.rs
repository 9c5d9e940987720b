//! A writable disk: a sparse file that holds what was written, over a base that stays as it is.
//!
//! The file is a header of 4 KiB (magic, version, block size, capacity, length of the base, all
//! little-endian), a bitmap of the blocks that the file holds, filled up to 4 KiB, and the blocks,
//! each at its place. The bitmap in the file is brought up to date by a flush, behind the blocks
//! it tells of: what was written since the last flush may be lost, as with any disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::Errno;

use super::super::buffer::Buffer;
use super::BLOCK_BYTES;
use super::disk::DiskError;
use super::extents::check_aligned;
use super::file_io;
use crate::sparse::next_data;

const BLOCK: u64 = BLOCK_BYTES as u64;
const MAGIC: [u8; 8] = *b"hyprcow\n";
const VERSION: u32 = 1;
const HEADER_LENGTH: usize = 4096;
const HEADER_BYTES: u64 = HEADER_LENGTH as u64;
/// What of the bitmap is written at once.
const BITMAP_PAGE: usize = 4096;
/// The largest disk: 16 TiB, whose bitmap is 512 MiB.
const MAX_CAPACITY: u64 = 16 << 40;

/// An overlay over a base.
#[derive(Debug)]
pub(crate) struct Overlay {
    base: Option<File>,
    base_bytes: u64,
    file: File,
    capacity_bytes: u64,
    /// Where in the file block 0 is.
    data_offset: u64,
    /// One bit per block that the file holds.
    bitmap: Vec<u8>,
    /// The pages of the bitmap that differ from the file's.
    stale_pages: BTreeSet<usize>,
    /// Whether something was written since the last flush.
    unflushed: bool,
}

impl Overlay {
    /// Opens an overlay, or makes one of an empty file.
    ///
    /// # Errors
    /// When the sizes are not aligned or the file is no overlay for this base and capacity.
    pub(crate) fn open(
        base: Option<File>,
        base_bytes: u64,
        file: File,
        capacity_bytes: u64,
    ) -> Result<Self, DiskError> {
        check_aligned("the capacity", capacity_bytes)?;
        if capacity_bytes > MAX_CAPACITY {
            return Err(DiskError::TooLarge);
        }
        let bitmap_bytes = capacity_bytes.div_ceil(BLOCK * 8).next_multiple_of(BLOCK);
        let bitmap = usize::try_from(bitmap_bytes).map_err(|_| DiskError::TooLarge)?;
        let mut overlay = Self {
            base_bytes: if base.is_some() { base_bytes } else { 0 },
            base,
            file,
            capacity_bytes,
            data_offset: HEADER_BYTES + bitmap_bytes,
            bitmap: vec![0; bitmap],
            stale_pages: BTreeSet::new(),
            unflushed: false,
        };
        let host = |what| move |source| DiskError::File { what, source };
        let bytes = overlay.file.metadata().map_err(host("look at the overlay file"))?.len();
        if bytes == 0 {
            overlay.format().map_err(host("make the overlay file"))?;
        } else {
            overlay.load(bytes)?;
        }
        Ok(overlay)
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Fills `buffer` with what is at `offset`, which the caller has checked.
    ///
    /// # Errors
    /// When a file gives an error.
    pub(crate) fn read(&self, mut offset: u64, mut buffer: Buffer<'_>) -> io::Result<()> {
        while buffer.len() > 0 {
            let (held, run) = self.run(offset, buffer.len());
            let part = buffer.take(run);
            if held {
                file_io::read(&self.file, self.data_offset + offset, part)?;
            } else {
                self.read_base(offset, part)?;
            }
            offset += run;
        }
        Ok(())
    }

    /// Puts `buffer` at `offset`, which the caller has checked.
    ///
    /// # Errors
    /// When a file gives an error; then some of it may have been written.
    pub(crate) fn write(&mut self, offset: u64, buffer: Buffer<'_>) -> io::Result<()> {
        let end = offset + buffer.len();
        self.copy_up_edges(offset, end)?;
        file_io::write(&self.file, self.data_offset + offset, buffer)?;
        self.hold(offset / BLOCK..end.div_ceil(BLOCK));
        Ok(())
    }

    /// Puts `bytes` zeros at `offset`, which the caller has checked.
    ///
    /// # Errors
    /// As [`Overlay::write`].
    pub(crate) fn write_zeros(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let end = offset + bytes;
        self.copy_up_edges(offset, end)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, self.data_offset + offset, bytes) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zero_bytes(offset, bytes)?,
            Err(error) => return Err(error.into()),
        }
        self.hold(offset / BLOCK..end.div_ceil(BLOCK));
        Ok(())
    }

    /// Makes all that was written survive a crash of the host.
    ///
    /// # Errors
    /// When the file gives an error.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.unflushed {
            fdatasync(&self.file)?;
            if !self.stale_pages.is_empty() {
                self.settle()?;
                fdatasync(&self.file)?;
            }
            self.unflushed = false;
        }
        Ok(())
    }

    /// Writes the bitmap to the file.
    ///
    /// # Errors
    /// When the file gives an error.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        while let Some(page) = self.stale_pages.first().copied() {
            let start = page * BITMAP_PAGE;
            let bytes = &self.bitmap[start..start + BITMAP_PAGE];
            self.file.write_all_at(bytes, HEADER_BYTES + start as u64)?;
            self.stale_pages.remove(&page);
        }
        Ok(())
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_LENGTH);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&BLOCK_BYTES.to_le_bytes());
        header.extend_from_slice(&self.capacity_bytes.to_le_bytes());
        header.extend_from_slice(&self.base_bytes.to_le_bytes());
        header.resize(HEADER_LENGTH, 0);
        header
    }

    fn format(&self) -> io::Result<()> {
        self.file.set_len(self.data_offset + self.capacity_bytes)?;
        self.file.write_all_at(&self.header(), 0)
    }

    fn load(&mut self, bytes: u64) -> Result<(), DiskError> {
        if bytes != self.data_offset + self.capacity_bytes {
            return Err(DiskError::BadOverlay { what: "its length does not fit the disk" });
        }
        let host = |source| DiskError::File { what: "read the overlay file", source };
        let mut header = vec![0; HEADER_LENGTH];
        self.file.read_exact_at(&mut header, 0).map_err(host)?;
        let expected = self.header();
        if header[..8] != expected[..8] {
            return Err(DiskError::BadOverlay { what: "it does not begin as one" });
        }
        let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if version != VERSION {
            return Err(DiskError::OverlayVersion { version });
        }
        if header != expected {
            return Err(DiskError::BadOverlay { what: "it was made for another disk" });
        }
        self.load_bitmap().map_err(host)
    }

    /// Reads what of the bitmap the file has: most of a new disk's is a hole, and costs nothing as long as
    /// it is not touched here either.
    fn load_bitmap(&mut self) -> io::Result<()> {
        let mut page = 0;
        while let Some(start) = next_data(&self.file, HEADER_BYTES + page * BLOCK)? {
            page = (start - HEADER_BYTES) / BLOCK;
            let at = usize::try_from(page * BLOCK).unwrap_or(usize::MAX);
            let Some(bytes) = self.bitmap.get_mut(at..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            self.file.read_exact_at(&mut bytes[..BITMAP_PAGE], HEADER_BYTES + page * BLOCK)?;
            page += 1;
        }
        Ok(())
    }

    /// Whether the file holds what is at `offset`, and for how many bytes, at most `bytes`, this
    /// is so.
    fn run(&self, offset: u64, bytes: u64) -> (bool, u64) {
        let end = offset + bytes;
        let first = offset / BLOCK;
        let held = self.holds(first);
        let mut block = first + 1;
        while block * BLOCK < end && self.holds(block) == held {
            block += 1;
        }
        (held, (block * BLOCK).min(end) - offset)
    }

    fn read_base(&self, offset: u64, mut buffer: Buffer<'_>) -> io::Result<()> {
        if let Some(base) = &self.base {
            file_io::read(base, offset, buffer.take(self.base_bytes.saturating_sub(offset)))?;
        }
        buffer.fill_zero();
        Ok(())
    }

    /// Brings the blocks at both ends of `offset..end` into the file, if they are not wholly in it.
    fn copy_up_edges(&mut self, offset: u64, end: u64) -> io::Result<()> {
        for edge in [offset, end] {
            if !edge.is_multiple_of(BLOCK) && !self.holds(edge / BLOCK) {
                self.copy_up(edge / BLOCK)?;
            }
        }
        Ok(())
    }

    fn copy_up(&mut self, block: u64) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let offset = block * BLOCK;
        if let Some(base) = &self.base {
            let count = self.base_bytes.saturating_sub(offset).min(BLOCK);
            let count = usize::try_from(count).expect("a block has 4096 bytes");
            base.read_exact_at(&mut bytes[..count], offset)?;
        }
        self.file.write_all_at(&bytes, self.data_offset + offset)?;
        self.hold(block..block + 1);
        Ok(())
    }

    /// For file systems that cannot punch holes.
    fn write_zero_bytes(&self, offset: u64, bytes: u64) -> io::Result<()> {
        // Not on the stack, where each disk's thread would have it for good.
        let zeros = vec![0; 64 << 10];
        let (mut at, end) = (offset, offset + bytes);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
            self.file.write_all_at(&zeros[..count], self.data_offset + at)?;
            at += count as u64;
        }
        Ok(())
    }

    fn holds(&self, block: u64) -> bool {
        let (byte, bit) = place(block);
        self.bitmap.get(byte).is_some_and(|bits| bits & bit != 0)
    }

    fn hold(&mut self, blocks: std::ops::Range<u64>) {
        self.unflushed = true;
        for block in blocks {
            let (byte, bit) = place(block);
            if self.bitmap[byte] & bit == 0 {
                self.bitmap[byte] |= bit;
                self.stale_pages.insert(byte / BITMAP_PAGE);
            }
        }
    }
}

/// A block's byte and bit in the bitmap.
fn place(block: u64) -> (usize, u8) {
    let byte = usize::try_from(block / 8).expect("the bitmap fits in memory");
    (byte, 1 << (block % 8))
}
