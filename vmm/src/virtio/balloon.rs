//! The balloon device (virtio 1.2, 5.5): gives the host back what the guest reports as free. It never
//! asks the guest for memory.

use virtio_queue::desc::split::Descriptor;
use vm_memory::GuestMemoryMmap;

use super::device::{Activated, DeviceError, DeviceKind, Server, VirtioDevice};
use super::queue::{Chain, serve_all};
use crate::memory;

/// `VIRTIO_BALLOON_F_PAGE_REPORTING`, 5.5.3. Without `VIRTIO_BALLOON_F_PAGE_POISON` a guest that
/// relies on what is in its free pages reports none.
const FEATURE_PAGE_REPORTING: u64 = 1 << 5;
/// The queue of reports: the third, since Linux counts no queue of a feature that is not there.
const REPORTING: usize = 2;

/// The guest's free memory on its way to the host.
#[derive(Debug)]
pub(crate) struct Balloon;

impl VirtioDevice for Balloon {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Balloon
    }

    fn features(&self) -> u64 {
        FEATURE_PAGE_REPORTING
    }

    /// To inflate, to deflate, and to report; Linux reports 32 ranges at once or none.
    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 16, 32]
    }

    /// `num_pages` and `actual`: nothing is asked for, and what the driver says it gave is not kept.
    fn config(&self) -> &[u8] {
        &[0; 8]
    }

    fn server(&self) -> Server {
        Server::Notifier
    }

    /// Pages that are inflated without being asked for stay where they are.
    fn serve(&mut self, activated: &mut Activated, queue: usize) -> Result<(), DeviceError> {
        serve_all(activated, queue, |memory, chain| {
            if queue == REPORTING {
                take(memory, chain)?;
            }
            Ok(0)
        })
    }
}

/// Gives the host all ranges of a report. There are no more of them than the queue has places, and
/// each is a `u32` of bytes at most.
fn take(memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<(), DeviceError> {
    chain.writable().try_for_each(|range: Descriptor| {
        memory::give_back(memory, range.addr(), range.len())
            .ok_or(DeviceError::Protocol { what: "a report is not of whole pages in memory" })
    })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
