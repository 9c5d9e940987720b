//! The body of the fuzz target for the network device: whatever a guest offers, the wire carries whole
//! frames only, and the device never writes where the guest has not asked for it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use super::*;
use crate::config::{NetBackend, NetLimits};
use crate::fuzz::Image;

/// How often each direction has its turn.
const ROUNDS: usize = 4;

/// Where the queues end in the input: behind the choice and both of them.
const QUEUES_END: usize = 1 + 0x400;

/// A device and the other end of its wire.
pub(super) fn wired(limits: NetLimits) -> (Net, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().expect("the host has room");
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).expect("it is open");
    }
    let backend = NetBackend::Tap(File::from(OwnedFd::from(ours)));
    (Net::new(NetConfig { backend, limits, vhost: None }), theirs)
}

/// A device over a stream, and its other end, from which these bytes come.
fn streamed(bytes: &[u8]) -> (Net, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("the host has room");
    theirs.set_nonblocking(true).expect("it is open");
    // What finds no room is not there.
    let _some = theirs.write(bytes);
    let backend = NetBackend::Stream(ours);
    let mut net = Net::new(NetConfig { backend, ..NetConfig::default() });
    net.wire.prepare(0).expect("the host has room");
    (net, theirs)
}

/// Serves the queues in a guest's memory; see `fuzz::Image`. The choice's lowest bits say which features
/// the driver has taken, and whether there is a stream in place of a tap, in which the host says what
/// lies behind the queues.
///
/// # Panics
/// When a frame reaches the wire that is too short or too long to be one.
pub fn net(bytes: &[u8]) {
    let image = Image::new(bytes, 2);
    if image.choice & 4 == 0 { over_a_tap(image) } else { over_a_stream(image, bytes) }
}

fn over_a_stream(mut image: Image, bytes: &[u8]) {
    let activated = &mut image.activated;
    activated.features = if image.choice & 1 == 0 { FEATURES } else { 0 };
    let (mut net, mut host) = streamed(bytes.get(QUEUES_END..).unwrap_or_default());
    let memory = activated.memory.clone();
    let mut receiver = Receiver::new(&memory, activated.features);
    let mut heard = Vec::new();
    for _ in 0..ROUNDS {
        if net.transmit(activated).is_err() || net.receive(activated, &mut receiver).is_err() {
            return;
        }
        let _until_there_is_no_more = host.read_to_end(&mut heard);
    }
    while net.wire.interest() == Interest::Both && !net.wire.is_clear() {
        let _until_there_is_no_more = host.read_to_end(&mut heard);
    }
    let _until_there_is_no_more = host.read_to_end(&mut heard);
    let mut left = &heard[..];
    while let Some((length, frames)) = left.split_first_chunk() {
        let length = u32::from_be_bytes(*length);
        assert!((ETHERNET_BYTES..=FRAME_BYTES - HEADER_BYTES).contains(&u64::from(length)));
        left = frames.get(length as usize..).expect("a frame is whole");
    }
    assert!(left.is_empty(), "a length is whole");
    receiver.give_back(&mut activated.queues[RX].queue);
}

fn over_a_tap(mut image: Image) {
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
