//! Disks: the virtio block device (virtio 1.2, 5.2) over extents of files or over an overlay.

mod disk;
mod extents;
mod file_io;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod overlay;
pub(crate) mod pace;
mod request;
#[cfg(test)]
mod tests;

pub use disk::DiskError;

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use self::disk::Disk;
use self::pace::Pace;
use self::request::Request;
use super::device::{Activated, DeviceError, DeviceKind, FEATURE_INDIRECT, VirtioDevice};
use super::poll::{Poll, Wake};
use super::queue::{Chain, serve_all};
use crate::config::DiskConfig;

/// The unit of sector numbers.
const SECTOR_BYTES: u32 = 512;
/// The logical block: what EROFS and ext4 use, so that no write is smaller than what is copied.
const BLOCK_BYTES: u32 = 4096;
/// The most data buffers of a request.
const MAX_SEGMENTS: u32 = 254;
/// The most ranges of a discard request, and sectors of a range.
const MAX_DISCARD_SEGMENTS: u32 = 32;
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// The best size of a request, in blocks: 256 KiB. Linux reads twice that ahead, and a guest that
/// starts a program comes back less often; each time costs more than some pages too many.
const BEST_BLOCKS: u32 = 64;
/// The length of a disk's serial number, `VIRTIO_BLK_ID_BYTES`.
const ID_BYTES: usize = 20;

/// Feature bits, 5.2.3.
const FEATURE_SEG_MAX: u64 = 1 << 2;
const FEATURE_RO: u64 = 1 << 5;
const FEATURE_BLK_SIZE: u64 = 1 << 6;
const FEATURE_FLUSH: u64 = 1 << 9;
const FEATURE_TOPOLOGY: u64 = 1 << 10;
const FEATURE_DISCARD: u64 = 1 << 13;
const FEATURE_WRITE_ZEROES: u64 = 1 << 14;

/// A disk of the guest.
#[derive(Debug)]
pub(crate) struct Block {
    disk: Disk,
    id: [u8; ID_BYTES],
    config: [u8; 60],
    /// How fast it is at most.
    pace: Option<Arc<Pace>>,
}

impl Block {
    /// A disk over open files.
    ///
    /// # Errors
    /// When the files are not what the configuration says.
    pub(crate) fn open(config: DiskConfig) -> Result<Self, DiskError> {
        let mut id = [0; ID_BYTES];
        let bytes = config.id.as_bytes();
        id.get_mut(..bytes.len()).ok_or(DiskError::LongId)?.copy_from_slice(bytes);
        let disk = Disk::open(config.backing)?;
        let config = config_space(&disk);
        Ok(Self { disk, id, config, pace: None })
    }

    /// The same disk, no faster than this together with all that have the same pace.
    pub(crate) fn with_pace(self, pace: Option<Arc<Pace>>) -> Self {
        Self { pace, ..self }
    }

    /// Makes all that was written survive the end of this process.
    fn settle(&mut self) -> Result<(), DeviceError> {
        let what = "write a disk's bitmap";
        self.disk.settle().map_err(|source| DeviceError::Host { what, source })
    }

    fn serve(&mut self, memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<u32, DeviceError> {
        let request = Request::parse(memory, chain)?;
        request.serve(&mut self.disk, &self.id)
    }
}

impl VirtioDevice for Block {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn features(&self) -> u64 {
        let common = FEATURE_SEG_MAX | FEATURE_BLK_SIZE | FEATURE_TOPOLOGY | FEATURE_INDIRECT;
        if self.disk.is_writable() {
            common | FEATURE_FLUSH | FEATURE_DISCARD | FEATURE_WRITE_ZEROES
        } else {
            common | FEATURE_RO
        }
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn run(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        if let Some(pace) = self.pace.clone() {
            return pace::run(self, &pace, activated);
        }
        let mut poll = Poll::new(activated)?;
        loop {
            match poll.wait(activated)? {
                Wake::Queue(queue) => {
                    serve_all(activated, queue, |memory, chain| self.serve(memory, chain))?;
                }
                Wake::Source => {}
                Wake::Stop => return self.settle(),
            }
        }
    }
}

/// `struct virtio_blk_config`, 5.2.4.
fn config_space(disk: &Disk) -> [u8; 60] {
    let mut config = [0; 60];
    let mut put = |offset: usize, bytes: &[u8]| {
        config[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &(disk.capacity_bytes() / u64::from(SECTOR_BYTES)).to_le_bytes());
    put(12, &MAX_SEGMENTS.to_le_bytes());
    put(20, &BLOCK_BYTES.to_le_bytes());
    put(28, &BEST_BLOCKS.to_le_bytes());
    put(34, &1u16.to_le_bytes());
    if disk.is_writable() {
        let sectors_per_block = BLOCK_BYTES / SECTOR_BYTES;
        put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
        put(40, &MAX_DISCARD_SEGMENTS.to_le_bytes());
        put(44, &sectors_per_block.to_le_bytes());
        put(48, &MAX_DISCARD_SECTORS.to_le_bytes());
        put(52, &MAX_DISCARD_SEGMENTS.to_le_bytes());
        put(56, &[1]);
    }
    config
}
