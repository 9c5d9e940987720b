//! The memory of a hostile guest: the input, and queues in it wherever the device expects them.

use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::virtio::device::{Activated, ActiveQueue, Interrupt};

/// All of the memory: what the input does not fill is zero.
const MEMORY_BYTES: usize = 128 << 10;
/// What each queue takes up at the memory's beginning: table, driver's ring, device's ring.
const QUEUE_BYTES: u64 = 0x200;
const DRIVER_RING: u64 = 0x100;
const DEVICE_RING: u64 = 0x140;
const QUEUE_SIZE: u16 = 16;

/// A guest's memory and how it drives its device.
pub(crate) struct Image {
    pub(crate) activated: Activated,
    /// A byte of the input that is not memory.
    pub(crate) choice: u8,
}

impl Image {
    /// A memory of `bytes`, with so many queues of 16 at its beginning, 512 bytes each: a table of
    /// descriptors, the driver's ring from byte 256 on, the device's from byte 320 on. The first
    /// byte is the choice; its highest bit turns event indices off.
    pub(crate) fn new(bytes: &[u8], queues: u64) -> Self {
        let (choice, bytes) = bytes.split_first().unwrap_or((&0, bytes));
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]);
        let memory = memory.expect("the host has room");
        let bytes = &bytes[..bytes.len().min(MEMORY_BYTES)];
        memory.write_slice(bytes, GuestAddress(0)).expect("it fits");
        let event = || EventFd::new(EFD_NONBLOCK).expect("the host has room");
        let queues = (0..queues).map(|index| {
            let queue = queue(index * QUEUE_BYTES, choice & 0x80 == 0);
            assert!(queue.is_valid(&memory), "the transport lets no other queue pass");
            ActiveQueue { queue, kick: event() }
        });
        let activated = Activated {
            queues: queues.collect(),
            interrupt: Interrupt::new(Arc::new(event())),
            stop: event(),
            features: 0,
            memory: memory.clone(),
        };
        Self { activated, choice: *choice }
    }
}

fn queue(base: u64, event_idx: bool) -> Queue {
    let mut queue = Queue::new(QUEUE_SIZE).expect("it is a power of two");
    let low = |address| Some(u32::try_from(address).expect("the memory is small"));
    queue.set_desc_table_address(low(base), None);
    queue.set_avail_ring_address(low(base + DRIVER_RING), None);
    queue.set_used_ring_address(low(base + DEVICE_RING), None);
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    queue
}
