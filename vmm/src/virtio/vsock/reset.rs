//! Tells a guest that goes on in another machine that its connections are gone: an event (virtio 1.2,
//! 5.10.6.7), at which its driver resets every socket that is connected.
//!
//! It would reset one that is made meanwhile as well, so nobody is let in before the driver is done: Linux
//! gives the event's buffer back when it is (net/vmw_vsock/virtio_transport.c, `virtio_transport_event_work`).

use std::sync::atomic::Ordering;

use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestMemoryMmap};

use super::EVENT;
use crate::virtio::device::{Activated, DeviceError};

/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`, as `struct virtio_vsock_event` has it.
const TRANSPORT_RESET: [u8; 4] = 0u32.to_le_bytes();
const EVENT_BYTES: u32 = 4;

/// How far the guest is with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// There is nothing to tell.
    Done,
    /// It is to be told.
    Owed,
    /// It was told when the driver's ring was so far.
    Told {
        /// The ring's index.
        driver_index: u16,
    },
}

impl Reset {
    /// Goes on with it as far as can be; whether it is done.
    ///
    /// # Errors
    /// When the guest broke the event queue.
    pub(super) fn go_on(&mut self, activated: &mut Activated) -> Result<bool, DeviceError> {
        if *self == Self::Owed {
            *self = tell(activated)?;
        }
        if let Self::Told { driver_index } = *self
            && has_moved(activated, driver_index)?
        {
            *self = Self::Done;
        }
        Ok(*self == Self::Done)
    }
}

/// Tells it, if the driver has a buffer for that; otherwise its next one is announced.
fn tell(activated: &mut Activated) -> Result<Reset, DeviceError> {
    let broken = DeviceError::queue(EVENT);
    let memory = &activated.memory;
    let queue = &mut activated.queues[EVENT].queue;
    loop {
        let driver_index = queue.avail_idx(memory, Ordering::Acquire).map_err(&broken)?.0;
        if let Some(chain) = queue.iter(memory).map_err(&broken)?.next() {
            let head = chain.head_index();
            let bytes = write_event(memory, chain.writable())?;
            queue.add_used(memory, head, bytes).map_err(&broken)?;
            if queue.needs_notification(memory).map_err(&broken)? {
                activated.interrupt.signal_queue();
            }
            return Ok(Reset::Told { driver_index });
        }
        if !queue.enable_notification(memory).map_err(&broken)? {
            return Ok(Reset::Owed);
        }
    }
}

/// Fills the first part that is the driver's to read; how much of it.
fn write_event(
    memory: &GuestMemoryMmap,
    mut parts: impl Iterator<Item = virtio_queue::desc::split::Descriptor>,
) -> Result<u32, DeviceError> {
    let what = "an event has no room";
    let part = parts.next().filter(|part| part.len() >= EVENT_BYTES);
    let part = part.ok_or(DeviceError::Protocol { what })?;
    let written = memory.write_slice(&TRANSPORT_RESET, part.addr());
    written.map_err(|_| DeviceError::Protocol { what: "an event lies outside of memory" })?;
    Ok(EVENT_BYTES)
}

/// Whether the driver has given a buffer back since; otherwise that is announced.
fn has_moved(activated: &mut Activated, driver_index: u16) -> Result<bool, DeviceError> {
    let memory = &activated.memory;
    let queue = &mut activated.queues[EVENT].queue;
    // More buffers are there than the one that was used: the next one is announced as if all were taken.
    let taken = queue.next_avail();
    queue.set_next_avail(driver_index);
    let moved = queue.enable_notification(memory).map_err(DeviceError::queue(EVENT));
    queue.set_next_avail(taken);
    moved
}
