//! A disk's bytes, wherever they are.

use std::io;

use super::super::buffer::Buffer;
use super::extents::{Extents, check_aligned};
use super::overlay::Overlay;
use crate::config::DiskBacking;

/// Both kinds of disks.
#[derive(Debug)]
pub(crate) enum Disk {
    /// Pieces of files.
    ReadOnly(Extents),
    /// An overlay over a base.
    CopyOnWrite {
        /// The bytes there are.
        overlay: Overlay,
        /// The bytes that the guest sees.
        capacity_bytes: u64,
    },
}

impl Disk {
    /// Checks the files of a disk.
    ///
    /// # Errors
    /// When they are not what the configuration says.
    pub(crate) fn open(backing: DiskBacking) -> Result<Self, DiskError> {
        match backing {
            DiskBacking::ReadOnly { extents, capacity_bytes } => {
                Ok(Self::ReadOnly(Extents::open(extents, capacity_bytes)?))
            }
            DiskBacking::CopyOnWrite {
                base,
                base_bytes,
                overlay,
                usable_bytes,
                capacity_bytes,
            } => {
                check_aligned("the capacity", capacity_bytes)?;
                if usable_bytes > capacity_bytes {
                    return Err(DiskError::TooLarge);
                }
                let overlay = Overlay::open(base, base_bytes, overlay, usable_bytes)?;
                Ok(Self::CopyOnWrite { overlay, capacity_bytes })
            }
        }
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        match self {
            Self::ReadOnly(extents) => extents.capacity_bytes(),
            Self::CopyOnWrite { capacity_bytes, .. } => *capacity_bytes,
        }
    }

    pub(crate) fn is_writable(&self) -> bool {
        matches!(self, Self::CopyOnWrite { .. })
    }

    /// Fills `buffer` with what is at `offset`.
    ///
    /// # Errors
    /// When the disk or a file of it ends before, or a file gives an error.
    pub(crate) fn read(&self, offset: u64, buffer: Buffer<'_>) -> io::Result<()> {
        self.check(offset, buffer.len())?;
        match self {
            Self::ReadOnly(extents) => extents.read(offset, buffer),
            Self::CopyOnWrite { overlay, .. } => overlay.read(offset, buffer),
        }
    }

    /// Puts `buffer` at `offset`.
    ///
    /// # Errors
    /// When the disk ends before, cannot be written, or a file gives an error.
    pub(crate) fn write(&mut self, offset: u64, buffer: Buffer<'_>) -> io::Result<()> {
        self.check(offset, buffer.len())?;
        self.writable()?.write(offset, buffer)
    }

    /// Puts `bytes` zeros at `offset`, and gives their space back to the host.
    ///
    /// # Errors
    /// As [`Disk::write`].
    pub(crate) fn write_zeros(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        self.check(offset, bytes)?;
        self.writable()?.write_zeros(offset, bytes)
    }

    /// Makes all that was written survive a crash of the host.
    ///
    /// # Errors
    /// When a file gives an error.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::ReadOnly(_) => Ok(()),
            Self::CopyOnWrite { overlay, .. } => overlay.flush(),
        }
    }

    /// Makes all that was written survive the end of this process.
    ///
    /// # Errors
    /// When a file gives an error.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::ReadOnly(_) => Ok(()),
            Self::CopyOnWrite { overlay, .. } => overlay.settle(),
        }
    }

    fn writable(&mut self) -> io::Result<&mut Overlay> {
        match self {
            Self::ReadOnly(_) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Self::CopyOnWrite { overlay, .. } => Ok(overlay),
        }
    }

    fn check(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let usable = match self {
            Self::ReadOnly(extents) => extents.capacity_bytes(),
            Self::CopyOnWrite { overlay, .. } => overlay.capacity_bytes(),
        };
        match offset.checked_add(bytes) {
            Some(end) if end <= usable => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The id does not fit.
    #[error("its id has more than 20 bytes")]
    LongId,
    /// An extent or the capacity is no multiple of the block size.
    #[error("{what} is {bytes}, not a multiple of 4096")]
    Unaligned {
        /// What is not.
        what: &'static str,
        /// Its value.
        bytes: u64,
    },
    /// An extent's file is too short for it.
    #[error("an extent ends at {end}, but its file at {file_bytes}")]
    ShortFile {
        /// Where the extent ends.
        end: u64,
        /// Where the file ends.
        file_bytes: u64,
    },
    /// The sum of the sizes is beyond all bounds.
    #[error("it is too large")]
    TooLarge,
    /// The overlay is no overlay of ours.
    #[error("its overlay file is damaged: {what}")]
    BadOverlay {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The overlay is of another version.
    #[error("its overlay file has version {version}, which this hyperrun does not know")]
    OverlayVersion {
        /// The version.
        version: u32,
    },
    /// A file gave an error.
    #[error("cannot {what}")]
    File {
        /// A verb and its object.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}
