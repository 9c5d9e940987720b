//! The contract between a virtio device and its transport: what kind, which queues, and what is done
//! about them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::poll::{Poll, Wake};

/// `VIRTIO_MMIO_INT_CONFIG`: the configuration has changed (virtio 1.2, 4.2.2.1).
const INTERRUPT_CONFIG: u32 = 1 << 1;
/// `VIRTIO_MMIO_INT_VRING`: a used ring has changed (virtio 1.2, 4.2.2.1).
const INTERRUPT_USED_RING: u32 = 1 << 0;

/// `VIRTIO_F_INDIRECT_DESC` (virtio 1.2, 6), which a device may have: a request takes one slot of the ring.
pub(crate) const FEATURE_INDIRECT: u64 = 1 << 28;

/// A virtio device: what kind it is, which queues it has, and what it does with them, in
/// [`serve`](Self::serve) or in [`run`](Self::run).
pub trait VirtioDevice: Send + 'static {
    /// What the guest's driver binds to.
    fn kind(&self) -> DeviceKind;

    /// The device's own feature bits; the transport adds `VERSION_1` and `RING_EVENT_IDX`.
    fn features(&self) -> u64 {
        0
    }

    /// The largest size of each queue, a power of two each.
    fn queue_sizes(&self) -> &'static [u16];

    /// The configuration space, read-only for the guest.
    fn config(&self) -> &[u8];

    /// Which thread serves the queues.
    fn server(&self) -> Server {
        Server::OwnThread
    }

    /// What a device that goes on in another machine has to know of this one, beside its queues; 0 for
    /// one that needs to know nothing.
    fn past(&self) -> u32 {
        0
    }

    /// Goes on where a device was that had this [`past`](Self::past).
    fn follow(&mut self, _past: u32) {}

    /// Serves a queue that was notified.
    ///
    /// # Errors
    /// When the guest broke the rules of a queue, or the host failed: the device is then of no
    /// more use until the guest resets it. What concerns one request only is answered in it.
    fn serve(&mut self, _activated: &mut Activated, _queue: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Serves the queues in a thread of its own from `DRIVER_OK` until `activated.stop` is
    /// readable. A device with no more to wait for than its queues leaves this as it is.
    ///
    /// # Errors
    /// As of [`serve`](Self::serve).
    fn run(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        let mut poll = Poll::new(activated)?;
        loop {
            match poll.wait(activated)? {
                Wake::Queue(queue) => self.serve(activated, queue)?,
                Wake::Source => {}
                Wake::Stop => return Ok(()),
            }
        }
    }
}

/// Which thread serves a device's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// One of the device's own.
    OwnThread,
    /// That of the vCPU which notifies a queue: the work is rare and short, and the guest waits for
    /// it anyway. None is lost, since vCPUs are stopped before devices are.
    Notifier,
}

/// The devices this machine knows, by their ids in virtio 1.2, section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// What gives free memory back.
    Balloon,
    /// A disk.
    Block,
    /// A network interface.
    Net,
    /// A source of entropy.
    Rng,
    /// Sockets between host and guest.
    Vsock,
}

impl DeviceKind {
    /// The virtio device id.
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::Net => 1,
            Self::Block => 2,
            Self::Rng => 4,
            Self::Balloon => 5,
            Self::Vsock => 19,
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balloon => "balloon",
            Self::Block => "block",
            Self::Net => "net",
            Self::Rng => "rng",
            Self::Vsock => "vsock",
        })
    }
}

/// What a running device works with.
#[derive(Debug)]
pub struct Activated {
    /// The guest's memory; a clone shares it.
    pub memory: GuestMemoryMmap,
    /// The queues, in the order of [`VirtioDevice::queue_sizes`].
    pub queues: Vec<ActiveQueue>,
    /// The way to the guest.
    pub interrupt: Interrupt,
    /// Readable once the device must stop; leave it unread.
    pub stop: EventFd,
    /// The negotiated features.
    pub features: u64,
}

/// A queue that the driver has set up.
#[derive(Debug)]
pub struct ActiveQueue {
    /// The ring, checked by `Queue::is_valid`; what it holds is not.
    pub queue: Queue,
    /// Readable once the guest has notified the queue.
    pub kick: EventFd,
}

/// A device's interrupt line.
#[derive(Debug, Clone)]
pub struct Interrupt {
    irqfd: Arc<EventFd>,
    /// Set by the device's thread, acknowledged by a vCPU's.
    pending: Arc<AtomicU32>,
}

impl Interrupt {
    /// An interrupt raised by writing to `irqfd`.
    #[must_use]
    pub fn new(irqfd: Arc<EventFd>) -> Self {
        Self { irqfd, pending: Arc::new(AtomicU32::new(0)) }
    }

    /// What to write to when a used ring has news, for who does not write it himself.
    pub(crate) fn event(&self) -> &EventFd {
        &self.irqfd
    }

    /// Tells the guest that a used ring has news.
    pub fn signal_queue(&self) {
        self.raise();
    }

    /// Tells the guest that the configuration space has changed.
    pub fn signal_config(&self) {
        self.pending.fetch_or(INTERRUPT_CONFIG, Ordering::SeqCst);
        self.raise();
    }

    /// The `InterruptStatus` register. Bit 0 always reads 1: the guest reads it before it looks at
    /// the rings, and an irqfd may have been raised by then without our knowledge.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.pending.load(Ordering::SeqCst) | INTERRUPT_USED_RING
    }

    /// The guest has seen `bits` (`InterruptACK`).
    pub fn acknowledge(&self, bits: u32) {
        self.pending.fetch_and(!bits, Ordering::SeqCst);
    }

    /// What is pending beside the bit that always reads 1, to be saved and restored.
    pub(crate) fn pending(&self) -> u32 {
        self.pending.load(Ordering::SeqCst)
    }

    /// Sets what was pending.
    pub(crate) fn set_pending(&self, bits: u32) {
        self.pending.store(bits, Ordering::SeqCst);
    }

    /// A reset device has nothing pending.
    pub fn clear(&self) {
        self.set_pending(0);
    }

    fn raise(&self) {
        // A full counter (EAGAIN) is an interrupt that is pending anyway.
        let _ = self.irqfd.write(1);
    }
}

/// Why a device stopped working.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The guest broke the rules of a ring.
    #[error("the guest broke queue {queue}")]
    Queue {
        /// The queue's index.
        queue: usize,
        /// What was wrong with it.
        source: virtio_queue::Error,
    },
    /// The guest sent something that the device cannot go on after.
    #[error("the guest broke the device's protocol: {what}")]
    Protocol {
        /// The broken rule.
        what: &'static str,
    },
    /// The host failed at something the device cannot do without.
    #[error("cannot {what}")]
    Host {
        /// What was tried: a verb and its object.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl DeviceError {
    /// For a failure in the ring with this index.
    pub(crate) fn queue(queue: usize) -> impl Fn(virtio_queue::Error) -> Self {
        move |source| Self::Queue { queue, source }
    }

    /// For a failure of the host at `what`.
    pub(crate) fn host(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }
}
