//! Serves the chains of a queue, in batches that end with at most one interrupt.

#[cfg(test)]
mod tests;

use std::sync::atomic::{Ordering, fence};

use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use super::device::{Activated, DeviceError};

/// A chain of descriptors in the guest's memory. Its contents are the guest's and not to be
/// trusted; walking it ends, whatever they are.
pub(crate) type Chain<'m> = DescriptorChain<&'m GuestMemoryMmap>;

/// Serves all chains that the guest has made available in queue `index`. `serve` gives the number
/// of bytes it wrote to the guest.
///
/// # Errors
/// When the ring is broken, or what `serve` gives.
pub(crate) fn serve_all(
    activated: &mut Activated,
    index: usize,
    mut serve: impl FnMut(&GuestMemoryMmap, Chain<'_>) -> Result<u32, DeviceError>,
) -> Result<(), DeviceError> {
    let broken = DeviceError::queue(index);
    let memory = &activated.memory;
    let queue = &mut activated.queues[index].queue;
    loop {
        queue.disable_notification(memory).map_err(&broken)?;
        let mut served = false;
        while let Some(chain) = queue.iter(memory).map_err(&broken)?.next() {
            let head = chain.head_index();
            let written = serve(memory, chain)?;
            queue.add_used(memory, head, written).map_err(&broken)?;
            served = true;
        }
        if served && queue.needs_notification(memory).map_err(&broken)? {
            activated.interrupt.signal_queue();
        }
        if !queue.enable_notification(memory).map_err(&broken)? {
            return Ok(());
        }
    }
}

/// Gives back several chains, as heads and bytes written: the guest sees all of them at once.
///
/// # Errors
/// When the ring is broken.
pub(crate) fn add_used_together(
    memory: &GuestMemoryMmap,
    queue: &mut Queue,
    used: &[(u16, u32)],
) -> Result<(), Error> {
    let Some((&(head, bytes), others)) = used.split_last() else { return Ok(()) };
    let ring = GuestAddress(queue.used_ring());
    for &(head, bytes) in others {
        // Where `add_used` would put it (virtio 1.2, 2.7.8), but without telling the guest yet.
        let offset = 4 + 8 * u64::from(queue.next_used() % queue.size());
        let address = ring.checked_add(offset).ok_or(Error::AddressOverflow)?;
        let element = [u32::from(head).to_le(), bytes.to_le()];
        memory.write_obj(element, address).map_err(Error::GuestMemory)?;
        queue.set_next_used(queue.next_used().wrapping_add(1));
    }
    queue.add_used(memory, head, bytes)
}

/// How many chains have been given back by [`add_used_together`] without an interrupt.
#[derive(Debug, Default)]
pub(crate) struct UsedBatch(u16);

impl UsedBatch {
    /// So many more.
    pub(crate) fn add(&mut self, count: u16) {
        self.0 = self.0.saturating_add(count);
    }

    /// Whether the guest wants an interrupt for them (2.7.10). `Queue::needs_notification` counts only
    /// what `add_used` was called for.
    ///
    /// # Errors
    /// When the ring is broken.
    pub(crate) fn needs_notification(
        &self,
        memory: &GuestMemoryMmap,
        queue: &Queue,
    ) -> Result<bool, Error> {
        if self.0 == 0 || !queue.event_idx_enabled() {
            return Ok(self.0 > 0);
        }
        fence(Ordering::SeqCst);
        let offset = 4 + 2 * u64::from(queue.size());
        let ring = GuestAddress(queue.avail_ring());
        let address = ring.checked_add(offset).ok_or(Error::AddressOverflow)?;
        let event = memory.load::<u16>(address, Ordering::Relaxed).map_err(Error::GuestMemory)?;
        let behind = queue.next_used().wrapping_sub(u16::from_le(event)).wrapping_sub(1);
        Ok(behind < self.0)
    }
}
