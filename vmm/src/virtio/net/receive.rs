//! Frames on their way to the guest: read straight into buffers that it has made available.

use std::collections::VecDeque;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use super::wire::Wire;
use super::{
    BATCH, FEATURE_GUEST_TSO4, FEATURE_GUEST_TSO6, FEATURE_MRG_RXBUF, FRAME_BYTES, HEADER_BYTES,
    RX, Served, gather, pay, wait_of,
};
use crate::virtio::buffer::{Buffer, MAX_PARTS};
use crate::virtio::device::{Activated, DeviceError};
use crate::virtio::queue::{UsedBatch, add_used_together};
use crate::virtio::rate::Rate;

/// Where `num_buffers` lies in the header (5.1.6).
const NUM_BUFFERS_OFFSET: u64 = 10;

/// Keeps buffers of the guest for the next frame.
pub(super) struct Receiver<'m> {
    memory: &'m GuestMemoryMmap,
    features: u64,
    chains: VecDeque<ReadyChain<'m>>,
    /// What all of them hold.
    bytes: u64,
    parts: usize,
}

/// A chain that was taken from the queue, to be filled.
struct ReadyChain<'m> {
    head: u16,
    buffer: Buffer<'m>,
}

impl<'m> Receiver<'m> {
    /// One that has no buffers yet, for a driver with these features.
    pub(super) fn new(memory: &'m GuestMemoryMmap, features: u64) -> Self {
        Self { memory, features, chains: VecDeque::new(), bytes: 0, parts: 0 }
    }

    /// Gives the guest what there is for it, as long as there are buffers for the next frame.
    ///
    /// # Errors
    /// When the guest breaks the queue, or the host fails.
    pub(super) fn serve(
        &mut self,
        activated: &mut Activated,
        wire: &mut Wire,
        rate: &mut Rate,
    ) -> Result<Served, DeviceError> {
        let queue = &mut activated.queues[RX].queue;
        let mut used = UsedBatch::default();
        let mut served = Served::Some;
        for _ in 0..BATCH {
            if let Some(wait) = wait_of(rate) {
                served = Served::Later(wait);
                break;
            }
            let Some(bytes) = wire.next_bytes(self.longest_frame()) else {
                served = Served::All;
                break;
            };
            if !self.has_room(bytes, queue)? {
                served = Served::All;
                break;
            }
            let slices = self.chains.iter().flat_map(|chain| chain.buffer.slices());
            match wire.read(slices) {
                Ok(Some(length)) => {
                    pay(rate, length as u64);
                    self.hand_over(length as u64, queue, &mut used)?;
                }
                Ok(None) => {
                    served = Served::All;
                    break;
                }
                // The interface is gone; a guest whose cable is pulled hears nothing more.
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    served = Served::All;
                    break;
                }
                Err(error) => return Err(DeviceError::host("read from a tap")(error)),
            }
        }
        if used.needs_notification(self.memory, queue).map_err(DeviceError::queue(RX))? {
            activated.interrupt.signal_queue();
        }
        Ok(served)
    }

    /// Puts the buffers that were not used back into the queue.
    pub(super) fn give_back(&mut self, queue: &mut Queue) {
        let unused = u16::try_from(self.chains.len()).expect("a queue has no more");
        queue.set_next_avail(queue.next_avail().wrapping_sub(unused));
        self.chains.clear();
        (self.bytes, self.parts) = (0, 0);
    }

    /// Takes buffers until a frame of `bytes` fits; if there are too few, the guest tells when it has
    /// added some.
    fn has_room(&mut self, bytes: u64, queue: &mut Queue) -> Result<bool, DeviceError> {
        while !self.is_ready(bytes, queue) {
            let Some(chain) = queue.iter(self.memory).map_err(DeviceError::queue(RX))?.next()
            else {
                if queue.enable_notification(self.memory).map_err(DeviceError::queue(RX))? {
                    continue;
                }
                return Ok(false);
            };
            let head = chain.head_index();
            let buffer = gather(self.memory, chain.writable())?;
            if buffer.len() < HEADER_BYTES {
                return Err(DeviceError::Protocol { what: "a buffer has no room for a header" });
            }
            self.bytes += buffer.len();
            self.parts += buffer.slices().count();
            self.chains.push_back(ReadyChain { head, buffer });
        }
        Ok(true)
    }

    /// Whether a frame of `bytes` fits, or there is no more room in the whole queue.
    fn is_ready(&self, bytes: u64, queue: &Queue) -> bool {
        if !self.may_merge() {
            return !self.chains.is_empty();
        }
        self.bytes >= bytes
            || self.parts >= MAX_PARTS
            || self.chains.len() >= usize::from(queue.size())
    }

    fn longest_frame(&self) -> u64 {
        let is_segmenting = self.features & (FEATURE_GUEST_TSO4 | FEATURE_GUEST_TSO6) != 0;
        // 5.1.6.3.1: what a driver without segmentation prepares itself for.
        if is_segmenting { FRAME_BYTES } else { 1526 }
    }

    fn may_merge(&self) -> bool {
        self.features & FEATURE_MRG_RXBUF != 0
    }

    /// Gives the guest a frame of `length` that lies in the first buffers. One that was cut off is
    /// dropped: its buffers wait for the next.
    pub(super) fn hand_over(
        &mut self,
        length: u64,
        queue: &mut Queue,
        used: &mut UsedBatch,
    ) -> Result<(), DeviceError> {
        let room = if self.may_merge() {
            self.bytes
        } else {
            self.chains.front().map_or(0, ReadyChain::len)
        };
        if length < HEADER_BYTES || length > room {
            return Ok(());
        }
        let count = self.count_for(length);
        self.write_num_buffers(count);
        let mut left = length;
        let filled = self.chains.drain(..usize::from(count)).map(|chain| {
            let bytes = chain.len().min(left);
            left -= bytes;
            self.bytes -= chain.len();
            self.parts -= chain.buffer.slices().count();
            (chain.head, u32::try_from(bytes).expect("a frame is short"))
        });
        let filled: Vec<(u16, u32)> = filled.collect();
        add_used_together(self.memory, queue, &filled).map_err(DeviceError::queue(RX))?;
        used.add(count);
        Ok(())
    }

    /// How many of the buffers a frame of `length` takes.
    fn count_for(&self, length: u64) -> u16 {
        let mut left = length;
        let mut count = 0;
        for chain in &self.chains {
            count += 1;
            left = left.saturating_sub(chain.len());
            if left == 0 {
                break;
            }
        }
        count
    }

    fn write_num_buffers(&mut self, count: u16) {
        if let Some(first) = self.chains.front_mut() {
            let mut header = first.buffer.clone().take(HEADER_BYTES);
            header.take(NUM_BUFFERS_OFFSET);
            header.fill_from(&count.to_le_bytes());
        }
    }
}

impl ReadyChain<'_> {
    fn len(&self) -> u64 {
        self.buffer.len()
    }
}
