//! Serves the chains of a queue, in batches that end with at most one interrupt.

#[cfg(test)]
mod tests;

use virtio_queue::{DescriptorChain, Error, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

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
    let broken = |source: Error| DeviceError::Queue { queue: index, source };
    let memory = &activated.memory;
    let queue = &mut activated.queues[index].queue;
    loop {
        queue.disable_notification(memory).map_err(broken)?;
        let mut served = false;
        while let Some(chain) = queue.iter(memory).map_err(broken)?.next() {
            let head = chain.head_index();
            let written = serve(memory, chain)?;
            queue.add_used(memory, head, written).map_err(broken)?;
            served = true;
        }
        if served && queue.needs_notification(memory).map_err(broken)? {
            activated.interrupt.signal_queue();
        }
        if !queue.enable_notification(memory).map_err(broken)? {
            return Ok(());
        }
    }
}
