//! The body of the fuzz target for the network device: whatever a guest offers, the wire carries whole
//! frames only, and the device never writes where the guest has not asked for it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::config::NetLimits;
use crate::fuzz::Image;

/// How often each direction has its turn.
const ROUNDS: usize = 4;

/// A device and the other end of its wire.
pub(super) fn wired(limits: NetLimits) -> (Net, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().expect("the host has room");
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).expect("it is open");
    }
    let tap = Some(File::from(OwnedFd::from(ours)));
    (Net::new(NetConfig { tap, limits }), theirs)
}

/// Serves the queues in a guest's memory; see `fuzz::Image`. The choice's lowest bits say which features
/// the driver has taken.
///
/// # Panics
/// When a frame reaches the wire that is too short or too long to be one.
pub fn net(bytes: &[u8]) {
    let mut image = Image::new(bytes, 2);
    let activated = &mut image.activated;
    activated.features = if image.choice & 1 == 0 { FEATURES } else { 0 };
    if image.choice & 2 == 0 {
        activated.features &= !(FEATURE_GUEST_TSO4 | FEATURE_GUEST_TSO6);
    }
    let (mut net, host) = wired(NetLimits::default());
    let memory = activated.memory.clone();
    let mut receiver = Receiver::new(&memory, activated.features);
    let mut frame = vec![0; 70_000];
    for round in 0..ROUNDS {
        let sent = [60, 1514, 9000, 65_562][round % 4] + usize::from(image.choice >> 4);
        let _full = host.send(&vec![7; sent]);
        if net.transmit(activated).is_err() || net.receive(activated, &mut receiver).is_err() {
            // A guest that broke the device has what it deserves.
            return;
        }
        while let Ok(length) = host.recv(&mut frame) {
            let length = length as u64;
            assert!((HEADER_BYTES + ETHERNET_BYTES..=FRAME_BYTES).contains(&length));
        }
    }
    let before = activated.queues[RX].queue.next_avail();
    receiver.give_back(&mut activated.queues[RX].queue);
    let given = before.wrapping_sub(activated.queues[RX].queue.next_avail());
    assert!(
        given <= activated.queues[RX].queue.size(),
        "buffers are given back that there are not"
    );
}
