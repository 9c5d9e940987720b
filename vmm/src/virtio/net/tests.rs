//! Frames both ways, over a pair of sockets in place of a tap.

mod stream;

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::thread;

use virtio_queue::Queue;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::fuzz::wired;
use super::*;
use crate::config::NetLimits;
use crate::virtio::device::{ActiveQueue, Interrupt};
use crate::virtio::poll::borrow;
use crate::virtio::queue::UsedBatch;

const WRITE: u16 = 2;
const NEXT: u16 = 1;
const DATA: u64 = 0x10_0000;

/// A guest with both rings, one behind the other.
struct Rig {
    activated: Activated,
    irq: Arc<EventFd>,
    net: Net,
    host: UnixDatagram,
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x40_0000)]).expect("memory is there")
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).expect("a descriptor")
}

fn rig(memory: &GuestMemoryMmap, rx: Queue, tx: Queue, features: u64) -> Rig {
    let irq = Arc::new(event());
    let queue = |queue| ActiveQueue { queue, kick: event() };
    let activated = Activated {
        memory: memory.clone(),
        queues: vec![queue(rx), queue(tx)],
        interrupt: Interrupt::new(Arc::clone(&irq)),
        stop: event(),
        features,
    };
    let (net, host) = wired(NetLimits::default());
    Rig { activated, irq, net, host }
}

fn rings(memory: &GuestMemoryMmap) -> [MockSplitQueue<'_, GuestMemoryMmap>; 2] {
    [0, 0x8000].map(|base| MockSplitQueue::create(memory, GuestAddress(base), 16))
}

fn descriptor(address: u64, bytes: u32, flags: u16, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, bytes, flags, next))
}

/// A frame with its header, each byte told by its place.
fn frame(bytes: usize) -> Vec<u8> {
    let header = usize::try_from(HEADER_BYTES).expect("it is short");
    (0..bytes).map(|at| if at < header { 0 } else { at.to_le_bytes()[0] }).collect()
}

fn used(ring: &MockSplitQueue<'_, GuestMemoryMmap>, index: usize) -> (u32, u32) {
    let element = ring.used().ring().ref_at(index).expect("it is in the ring").load();
    (element.id(), element.len())
}

#[test]
fn a_frame_leaves_the_guest_whole() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    let sent = frame(12 + 100);
    memory.write_slice(&sent, GuestAddress(DATA)).expect("it is memory");
    let chains = [
        descriptor(DATA, 12, NEXT, 1),
        descriptor(DATA + 12, 60, NEXT, 2),
        descriptor(DATA + 72, 40, 0, 0),
    ];
    tx.add_desc_chains(&chains, 0).expect("they fit");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, FEATURES);
    let served = rig.net.transmit(&mut rig.activated).expect("the ring is sound");
    assert_eq!(served, Served::All);
    let mut heard = [0; 200];
    let length = rig.host.recv(&mut heard).expect("it was sent");
    assert_eq!(heard[..length], sent);
    assert_eq!(used(&tx, 0), (0, 0));
    assert!(rig.irq.read().is_ok());
}

#[test]
fn what_is_no_frame_is_taken_and_dropped() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    let chains = [
        descriptor(DATA, 25, 0, 0),
        descriptor(DATA, 65_563, 0, 0),
        descriptor(DATA, 100, WRITE, 0),
        descriptor(DATA, 26, 0, 0),
    ];
    tx.add_desc_chains(&chains, 0).expect("they fit");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, FEATURES);
    rig.net.transmit(&mut rig.activated).expect("the ring is sound");
    assert_eq!(tx.used().idx().load(), 4);
    let mut heard = [0; 200];
    assert_eq!(rig.host.recv(&mut heard).expect("one was a frame"), 26);
    assert!(rig.host.recv(&mut heard).is_err());
}

#[test]
fn without_a_tap_frames_lead_nowhere() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    tx.add_desc_chains(&[descriptor(DATA, 60, 0, 0)], 0).expect("it fits");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, FEATURES);
    rig.net = Net::new(NetConfig::default());
    rig.net.transmit(&mut rig.activated).expect("the ring is sound");
    assert_eq!(used(&tx, 0), (0, 0));
}

#[test]
fn a_frame_outside_of_memory_breaks_the_device() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    tx.add_desc_chains(&[descriptor(0x40_0000 - 10, 60, 0, 0)], 0).expect("it fits");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, FEATURES);
    let broken = rig.net.transmit(&mut rig.activated);
    assert!(matches!(broken, Err(DeviceError::Protocol { .. })));
}

/// Buffers of these sizes for the guest, one behind the other.
fn buffers(sizes: &[u32]) -> Vec<RawDescriptor> {
    let mut address = DATA;
    let buffer = |size: &u32| {
        let buffer = descriptor(address, *size, WRITE, 0);
        address += u64::from(*size);
        buffer
    };
    sizes.iter().map(buffer).collect()
}

#[test]
fn a_long_frame_takes_several_buffers_and_the_guest_sees_all_at_once() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    rx.add_desc_chains(&buffers(&[1000, 2000, 63_000, 1000]), 0).expect("they fit");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, FEATURES);
    let sent = frame(2500);
    rig.host.send(&sent).expect("there is room");
    let mut receiver = Receiver::new(&memory, FEATURES);
    let served = rig.net.receive(&mut rig.activated, &mut receiver).expect("the ring is sound");
    assert_eq!(served, Served::All);
    assert_eq!(rx.used().idx().load(), 2);
    assert_eq!([used(&rx, 0), used(&rx, 1)], [(0, 1000), (1, 1500)]);
    let mut heard = vec![0; 2500];
    memory.read_slice(&mut heard, GuestAddress(DATA)).expect("it is memory");
    assert_eq!(heard[10..12], [2, 0], "num_buffers");
    assert_eq!(heard[12..], sent[12..]);
    assert!(rig.irq.read().is_ok());
    receiver.give_back(&mut rig.activated.queues[RX].queue);
    assert_eq!(rig.activated.queues[RX].queue.next_avail(), 2, "the others wait in the queue");
}

#[test]
fn a_frame_waits_for_buffers_that_hold_it() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    rx.add_desc_chains(&buffers(&[2000, 2000]), 0).expect("they fit");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, FEATURES);
    rig.host.send(&frame(60)).expect("there is room");
    let mut receiver = Receiver::new(&memory, FEATURES);
    let served = rig.net.receive(&mut rig.activated, &mut receiver).expect("the ring is sound");
    assert_eq!((served, rx.used().idx().load()), (Served::All, 0));
}

#[test]
fn a_driver_that_merges_nothing_loses_what_does_not_fit() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    rx.add_desc_chains(&buffers(&[1526, 1526]), 0).expect("they fit");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, 0);
    let mut receiver = Receiver::new(&memory, 0);
    rig.host.send(&frame(1526)).expect("there is room");
    rig.net.receive(&mut rig.activated, &mut receiver).expect("the ring is sound");
    // A tap tells the length of a frame that it has cut off.
    let (queue, mut used_batch) = (&mut rig.activated.queues[RX].queue, UsedBatch::default());
    receiver.hand_over(1527, queue, &mut used_batch).expect("the ring is sound");
    assert_eq!((rx.used().idx().load(), used(&rx, 0)), (1, (0, 1526)));
    receiver.hand_over(1526, queue, &mut used_batch).expect("the ring is sound");
    assert_eq!((rx.used().idx().load(), used(&rx, 1)), (2, (1, 1526)));
}

#[test]
fn a_buffer_without_room_for_a_header_breaks_the_device() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    rx.add_desc_chains(&buffers(&[11]), 0).expect("it fits");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let mut rig = rig(&memory, queues.0, queues.1, FEATURES);
    let mut receiver = Receiver::new(&memory, FEATURES);
    let broken = rig.net.receive(&mut rig.activated, &mut receiver);
    assert!(matches!(broken, Err(DeviceError::Protocol { .. })));
}

#[test]
fn interrupts_are_asked_for_by_event_index() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    rx.add_desc_chains(&buffers(&[2000; 16]), 0).expect("they fit");
    let mut queue: Queue = rx.create_queue().expect("valid");
    queue.set_event_idx(true);
    // The mock's lies where the driver's event index does.
    queue.set_used_ring_address(Some(0x7000), None);
    let mut rig = rig(&memory, queue, tx.create_queue().expect("valid"), 0);
    let mut receiver = Receiver::new(&memory, 0);
    let mut send = |rig: &mut Rig, count: usize| {
        for _ in 0..count {
            rig.host.send(&frame(60)).expect("there is room");
        }
        rig.net.receive(&mut rig.activated, &mut receiver).expect("the ring is sound");
        rig.irq.read().is_ok()
    };
    // `used_event` lies behind the driver's ring: an interrupt once the fifth is used.
    let event = GuestAddress(rig.activated.queues[RX].queue.avail_ring() + 4 + 2 * 16);
    memory.write_obj(4u16, event).expect("it is memory");
    assert!(!send(&mut rig, 4));
    assert!(send(&mut rig, 3));
    assert!(!send(&mut rig, 3));
}

#[test]
fn a_device_at_work_moves_frames_until_it_is_stopped() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    rx.add_desc_chains(&buffers(&[33_000; 4]), 0).expect("they fit");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let Rig { mut activated, irq, mut net, host } = rig(&memory, queues.0, queues.1, FEATURES);
    rustix::io::ioctl_fionbio(borrow(&irq), false).expect("it is open");
    let stop = activated.stop.try_clone().expect("a descriptor");
    let device = thread::spawn(move || {
        let outcome = net.run(&mut activated);
        (outcome, activated)
    });
    for frames in 1..=2 {
        host.send(&frame(60)).expect("there is room");
        irq.read().expect("it is raised for the frame");
        assert_eq!(rx.used().idx().load(), frames);
    }
    stop.write(1).expect("there is room");
    let (outcome, activated) = device.join().expect("it does not panic");
    assert!(outcome.is_ok());
    // The longest frame needs two buffers; those that were taken and not used are in the queue again.
    assert_eq!(activated.queues[RX].queue.next_avail(), 2);
}

#[test]
fn what_comes_too_fast_waits_for_its_turn() {
    let memory = memory();
    let [rx, tx] = rings(&memory);
    rx.add_desc_chains(&buffers(&[2000; 8]), 0).expect("they fit");
    tx.add_desc_chains(&[descriptor(DATA, 1012, 0, 0); 8], 0).expect("they fit");
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let Rig { mut activated, .. } = rig(&memory, queues.0, queues.1, 0);
    // A byte a second each way: after the first frame the rest waits.
    let (mut net, host) = wired(NetLimits { received_bytes: Some(1), sent_bytes: Some(1) });
    (0..2).for_each(|_| assert!(host.send(&frame(1012)).is_ok()));
    let mut receiver = Receiver::new(&memory, 0);
    let is_later = |served| matches!(served, Served::Later(wait) if wait.as_secs() > 900);
    assert!(is_later(net.transmit(&mut activated).expect("the ring is sound")));
    assert!(is_later(net.receive(&mut activated, &mut receiver).expect("the ring is sound")));
    assert_eq!((tx.used().idx().load(), rx.used().idx().load()), (1, 1));
    assert!(is_later(net.transmit(&mut activated).expect("the ring is sound")));
    assert_eq!(tx.used().idx().load(), 1);
}
