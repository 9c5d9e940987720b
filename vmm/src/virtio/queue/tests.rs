//! Rings and chains, sound and hostile, served by the entropy device.

use std::sync::Arc;

use virtio_queue::Queue;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::device::{ActiveQueue, Interrupt};
use super::super::rng::fill;
use super::*;

const WRITE: u16 = 2;
const NEXT: u16 = 1;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x40_0000)]).expect("memory is there")
}

fn activated(memory: &GuestMemoryMmap, queue: Queue) -> (Activated, Arc<EventFd>) {
    let event_fd = || EventFd::new(EFD_NONBLOCK).expect("a descriptor");
    let irq = Arc::new(event_fd());
    let activated = Activated {
        memory: memory.clone(),
        queues: vec![ActiveQueue { queue, kick: event_fd() }],
        interrupt: Interrupt::new(Arc::clone(&irq)),
        stop: event_fd(),
        features: 0,
    };
    (activated, irq)
}

fn descriptor(address: u64, bytes: u32, flags: u16, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, bytes, flags, next))
}

#[test]
fn chains_come_back_with_what_was_written_and_one_interrupt() {
    let memory = memory();
    let ring = MockSplitQueue::new(&memory, 16);
    let chains = [
        descriptor(0x10_0000, 100, WRITE | NEXT, 1),
        descriptor(0x20_0000, 28, WRITE, 0),
        descriptor(0x10_0000, 64, 0, 0),
    ];
    ring.add_desc_chains(&chains, 0).expect("they fit");
    let (mut activated, irq) = activated(&memory, ring.create_queue().expect("it is valid"));
    serve_all(&mut activated, 0, fill).expect("the ring is sound");

    assert_eq!(ring.used().idx().load(), 2);
    let used = |index| {
        let element = ring.used().ring().ref_at(index).expect("it is in the ring").load();
        (element.id(), element.len())
    };
    assert_eq!(used(0), (0, 128));
    assert_eq!(used(1), (2, 0));
    assert_eq!(irq.read().expect("it was raised"), 1);
    let mut bytes = [0; 100];
    memory.read_slice(&mut bytes, GuestAddress(0x10_0000)).expect("it is memory");
    assert_ne!(bytes, [0; 100]);
}

#[test]
fn a_request_for_entropy_is_capped() {
    let memory = memory();
    let ring = MockSplitQueue::new(&memory, 16);
    ring.add_desc_chains(&[descriptor(0x10_0000, 0x10_0000, WRITE, 0)], 0).expect("it fits");
    let (mut activated, _) = activated(&memory, ring.create_queue().expect("it is valid"));
    serve_all(&mut activated, 0, fill).expect("the ring is sound");
    assert_eq!(ring.used().ring().ref_at(0).expect("it is there").load().len(), 0x1_0000);
    let behind: u8 = memory.read_obj(GuestAddress(0x11_0000)).expect("it is memory");
    assert_eq!(behind, 0);
}

#[test]
fn hostile_rings_fail_the_device_or_end() {
    let cases = [
        ("outside of memory", descriptor(0x40_0000 - 8, 64, WRITE, 0), true),
        ("around the end of addresses", descriptor(u64::MAX - 8, 64, WRITE, 0), true),
        ("a loop", descriptor(0x10_0000, 1, WRITE | NEXT, 0), false),
        ("a next that is not there", descriptor(0x10_0000, 1, WRITE | NEXT, 999), false),
        ("an indirect table of odd size", descriptor(0x10_0000, 17, 4, 0), false),
    ];
    for (name, descriptor, fails) in cases {
        let memory = memory();
        let ring = MockSplitQueue::new(&memory, 16);
        ring.add_desc_chains(&[descriptor], 0).expect("it fits");
        // A chain whose last descriptor points on has not been made available.
        ring.avail().idx().store(1);
        let (mut activated, _) = activated(&memory, ring.create_queue().expect("it is valid"));
        assert_eq!(serve_all(&mut activated, 0, fill).is_err(), fails, "{name}");
    }
}

#[test]
fn more_chains_than_the_ring_holds_fail_the_device() {
    let memory = memory();
    let ring = MockSplitQueue::new(&memory, 16);
    ring.avail().idx().store(17);
    let (mut activated, _) = activated(&memory, ring.create_queue().expect("it is valid"));
    let served = serve_all(&mut activated, 0, fill);
    assert!(matches!(served, Err(DeviceError::Queue { queue: 0, .. })));
}
