//! A read-only disk made of pieces of files, one after the other.

use std::fs::File;
use std::io;

use super::super::buffer::Buffer;
use super::BLOCK_BYTES;
use super::disk::DiskError;
use super::file_io;
use crate::config::DiskExtent;

/// The pieces in their order on the disk.
#[derive(Debug)]
pub(crate) struct Extents {
    extents: Vec<Extent>,
    /// Where the last piece ends.
    end: u64,
    capacity_bytes: u64,
}

#[derive(Debug)]
struct Extent {
    /// Where on the disk the piece begins.
    start: u64,
    file: File,
    /// Where in the file the piece begins.
    offset: u64,
}

impl Extents {
    /// Checks the pieces of a disk of `capacity_bytes`.
    ///
    /// # Errors
    /// When one is not aligned, its file is too short, or the disk too small for them.
    pub(crate) fn open(configs: Vec<DiskExtent>, capacity_bytes: u64) -> Result<Self, DiskError> {
        check_aligned("its capacity", capacity_bytes)?;
        let mut extents = Vec::with_capacity(configs.len());
        let mut disk_end = 0u64;
        for DiskExtent { file, offset, length } in configs {
            check_aligned("an extent's offset", offset)?;
            check_aligned("an extent's length", length)?;
            let what = "look at an extent's file";
            let file_bytes =
                file.metadata().map_err(|source| DiskError::File { what, source })?.len();
            let end = offset.checked_add(length).ok_or(DiskError::TooLarge)?;
            if end > file_bytes {
                return Err(DiskError::ShortFile { end, file_bytes });
            }
            if length > 0 {
                extents.push(Extent { start: disk_end, file, offset });
            }
            disk_end = disk_end.checked_add(length).ok_or(DiskError::TooLarge)?;
        }
        if disk_end > capacity_bytes {
            return Err(DiskError::TooLarge);
        }
        Ok(Self { extents, end: disk_end, capacity_bytes })
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Fills `buffer` with what is at `offset`, which the caller has checked.
    ///
    /// # Errors
    /// When there is nothing any more, a file has become shorter or gives an error.
    pub(crate) fn read(&self, mut offset: u64, mut buffer: Buffer<'_>) -> io::Result<()> {
        // The last extent that does not begin behind the offset.
        let first = self.extents.partition_point(|extent| extent.start <= offset);
        let mut index = first.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        while buffer.len() > 0 {
            let extent = self.extents.get(index).ok_or(io::ErrorKind::UnexpectedEof)?;
            let end = self.extents.get(index + 1).map_or(self.end, |next| next.start);
            let part = buffer.take(end.saturating_sub(offset));
            let bytes = part.len();
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file_io::read(&extent.file, extent.offset + (offset - extent.start), part)?;
            offset += bytes;
            index += 1;
        }
        Ok(())
    }
}

pub(super) fn check_aligned(what: &'static str, bytes: u64) -> Result<(), DiskError> {
    if bytes.is_multiple_of(u64::from(BLOCK_BYTES)) {
        Ok(())
    } else {
        Err(DiskError::Unaligned { what, bytes })
    }
}
