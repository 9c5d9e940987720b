//! The network device (virtio 1.2, 5.1): frames between the guest and a tap, or a program, of the host.
//!
//! Its features do not depend on what is behind it, and it has no address of its own: who runs in the
//! guest sets one. So a machine can be saved with nothing behind it and go on with a tap.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod receive;
mod stream;
mod tap;
#[cfg(test)]
mod tests;
mod vhost;
mod wire;

use std::time::{Duration, Instant};

use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use self::receive::Receiver;
use self::vhost::Vhost;
use self::wire::Wire;
use super::buffer::{Buffer, MAX_PARTS};
use super::device::{Activated, DeviceError, DeviceKind, FEATURE_INDIRECT, VirtioDevice};
use super::poll::{Interest, Poll, Wake};
use super::rate::Rate;
use crate::config::{NetConfig, NetLimits};

pub use self::tap::open as open_tap;
pub use self::vhost::open as open_vhost;

/// The queue of frames for the guest.
const RX: usize = 0;
/// The queue of frames from the guest.
const TX: usize = 1;
/// How many frames of one direction are moved before the other has its turn.
const BATCH: usize = 64;

/// `struct virtio_net_hdr` with `num_buffers`, 5.1.6.
const HEADER_BYTES: u64 = 12;
/// An Ethernet header: no frame is shorter.
const ETHERNET_BYTES: u64 = 14;
/// The longest frame, header and all, that segmentation offload makes (5.1.6.3.1).
const FRAME_BYTES: u64 = 65_562;

/// Feature bits, 5.1.3.
const FEATURE_CSUM: u64 = 1 << 0;
const FEATURE_GUEST_CSUM: u64 = 1 << 1;
const FEATURE_GUEST_TSO4: u64 = 1 << 7;
const FEATURE_GUEST_TSO6: u64 = 1 << 8;
const FEATURE_GUEST_ECN: u64 = 1 << 9;
const FEATURE_HOST_TSO4: u64 = 1 << 11;
const FEATURE_HOST_TSO6: u64 = 1 << 12;
const FEATURE_HOST_ECN: u64 = 1 << 13;
const FEATURE_MRG_RXBUF: u64 = 1 << 15;

/// What the guest can have the host do, and what it takes itself.
const FEATURES: u64 = FEATURE_CSUM
    | FEATURE_GUEST_CSUM
    | FEATURE_GUEST_TSO4
    | FEATURE_GUEST_TSO6
    | FEATURE_GUEST_ECN
    | FEATURE_HOST_TSO4
    | FEATURE_HOST_TSO6
    | FEATURE_HOST_ECN
    | FEATURE_MRG_RXBUF
    | FEATURE_INDIRECT;

/// A network interface of the guest.
#[derive(Debug)]
pub(crate) struct Net {
    wire: Wire,
    vhost: Option<Vhost>,
    received: Rate,
    sent: Rate,
}

/// How a queue was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// There is nothing to do until something happens.
    All,
    /// There may be more to do.
    Some,
    /// There may be more to do after this long.
    Later(Duration),
}

impl Net {
    /// A device with what is behind it.
    pub(crate) fn new(config: NetConfig) -> Self {
        let NetConfig { backend, vhost, limits } = config;
        let now = Instant::now();
        Self {
            wire: Wire::new(backend),
            // It knows no limits.
            vhost: vhost.filter(|_| limits == NetLimits::default()).map(Vhost::new),
            received: Rate::new(limits.received_bytes, now),
            sent: Rate::new(limits.sent_bytes, now),
        }
    }

    /// Hands frames of the guest to the host, or to nobody. What the host refuses is lost, as on any
    /// wire.
    fn transmit(&mut self, activated: &mut Activated) -> Result<Served, DeviceError> {
        let broken = DeviceError::queue(TX);
        let memory = &activated.memory;
        let queue = &mut activated.queues[TX].queue;
        let mut served = Served::Some;
        for _ in 0..BATCH {
            if let Some(wait) = wait_of(&self.sent) {
                served = Served::Later(wait);
                break;
            }
            if !self.wire.is_clear() {
                served = Served::All;
                break;
            }
            let Some(chain) = queue.iter(memory).map_err(&broken)?.next() else {
                if queue.enable_notification(memory).map_err(&broken)? {
                    continue;
                }
                served = Served::All;
                break;
            };
            let head = chain.head_index();
            let frame = gather(memory, chain.readable())?;
            let is_frame = (HEADER_BYTES + ETHERNET_BYTES..=FRAME_BYTES).contains(&frame.len());
            let is_frame = is_frame && frame.slices().count() <= MAX_PARTS;
            if is_frame {
                pay(&mut self.sent, frame.len());
                self.wire.write(frame);
            }
            queue.add_used(memory, head, 0).map_err(&broken)?;
            // Not after the last: the guest makes more while this thread is at those that are left.
            if queue.needs_notification(memory).map_err(&broken)? {
                activated.interrupt.signal_queue();
            }
        }
        Ok(served)
    }

    /// Hands frames of the host to the guest.
    fn receive(
        &mut self,
        activated: &mut Activated,
        receiver: &mut Receiver<'_>,
    ) -> Result<Served, DeviceError> {
        receiver.serve(activated, &mut self.wire, &mut self.received)
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Net
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256]
    }

    /// Without `VIRTIO_NET_F_MAC`, `_STATUS` and `_MTU` there is nothing in it.
    fn config(&self) -> &[u8] {
        &[]
    }

    fn run(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        self.wire.prepare(offloads(activated.features))?;
        if let (Wire::Tap(tap), Some(vhost)) = (&self.wire, &mut self.vhost) {
            match vhost.start(activated, tap) {
                Ok(broken) => return vhost.serve(activated, &broken),
                // The device can do it itself.
                Err(_) => self.vhost = None,
            }
        }
        self.move_frames(activated)
    }
}

impl Net {
    /// Moves frames until the device must stop.
    fn move_frames(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        let mut poll = Poll::new(activated)?;
        let mut interest = Interest::Incoming;
        if let Some(source) = self.wire.source() {
            poll.watch(source).map_err(DeviceError::host("watch a network"))?;
        }
        let memory = activated.memory.clone();
        let mut receiver = Receiver::new(&memory, activated.features);
        // Something may have come before we looked.
        let (mut incoming, mut outgoing) = (Served::Some, Served::Some);
        loop {
            let patience = [incoming.patience(), outgoing.patience()].into_iter().flatten().min();
            match poll.wait_at_most(activated, patience)? {
                Some(Wake::Queue(TX)) => outgoing = Served::Some,
                Some(Wake::Queue(_)) => incoming = Served::Some,
                Some(Wake::Source) if interest == Interest::Both => {
                    (incoming, outgoing) = (Served::Some, Served::Some);
                }
                Some(Wake::Source) => incoming = Served::Some,
                Some(Wake::Stop) => {
                    receiver.give_back(&mut activated.queues[RX].queue);
                    return Ok(());
                }
                None => {}
            }
            if outgoing != Served::All {
                outgoing = self.transmit(activated)?;
            }
            if incoming != Served::All {
                incoming = self.receive(activated, &mut receiver)?;
            }
            if let Some(source) = self.wire.source()
                && self.wire.interest() != interest
            {
                interest = self.wire.interest();
                poll.watch_anew(source, interest).map_err(DeviceError::host("watch a network"))?;
            }
        }
    }
}

impl Served {
    /// How long to wait for something to happen; none is for ever.
    fn patience(self) -> Option<Duration> {
        match self {
            Self::All => None,
            Self::Some => Some(Duration::ZERO),
            Self::Later(wait) => Some(wait),
        }
    }
}

/// How long nothing may pass; none if it may.
fn wait_of(rate: &Rate) -> Option<Duration> {
    let wait = rate.is_limited().then(|| rate.wait(Instant::now()));
    wait.filter(|wait| !wait.is_zero())
}

/// Counts a frame of `bytes`, of which the header is not on the wire.
fn pay(rate: &mut Rate, bytes: u64) {
    if rate.is_limited() {
        rate.take(bytes.saturating_sub(HEADER_BYTES), Instant::now());
    }
}

/// The parts of a chain.
fn gather<'m>(
    memory: &'m GuestMemoryMmap,
    parts: impl Iterator<Item = virtio_queue::desc::split::Descriptor>,
) -> Result<Buffer<'m>, DeviceError> {
    let mut buffer = Buffer::default();
    for part in parts {
        buffer
            .push(memory, part.addr(), part.len())
            .map_err(|_| DeviceError::Protocol { what: "a frame lies outside of memory" })?;
    }
    Ok(buffer)
}

/// What the host may hand over to a guest with these features, as `TUN_F_…`.
fn offloads(features: u64) -> u32 {
    [
        (FEATURE_GUEST_CSUM, libc::TUN_F_CSUM),
        (FEATURE_GUEST_TSO4, libc::TUN_F_TSO4),
        (FEATURE_GUEST_TSO6, libc::TUN_F_TSO6),
        (FEATURE_GUEST_ECN, libc::TUN_F_TSO_ECN),
    ]
    .into_iter()
    .filter(|(feature, _)| features & feature != 0)
    .fold(0, |offloads, (_, offload)| offloads | offload)
}
