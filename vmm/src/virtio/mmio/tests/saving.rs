//! A transport that is paused, saved and put in another one's place.

use std::sync::atomic::Ordering;
use std::time::Instant;

use vm_memory::Bytes;

use super::super::super::queue::serve_all;
use super::*;
use crate::snapshot::SnapshotError;

/// A device that gives everything back as it came.
struct Taker;

impl VirtioDevice for Taker {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 8]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn run(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        let mut poll = Poll::new(activated)?;
        loop {
            match poll.wait(activated)? {
                Wake::Source => {}
                Wake::Stop => return Ok(()),
                Wake::Queue(queue) => serve_all(activated, queue, |_, _| Ok(0))?,
            }
        }
    }
}

fn taker() -> Rig {
    rig_of(Box::new(Taker))
}

/// Makes descriptor 0 available so often that `total` were.
fn offer(rig: &Rig, total: u16) {
    let memory = &rig.transport.wiring.memory;
    memory.write_obj(4u32, GuestAddress(u64::from(TABLE) + 8)).expect("it is memory");
    let index = GuestAddress(u64::from(DRIVER_RING) + 2);
    memory.store(total, index, Ordering::Release).expect("it is memory");
}

fn used(rig: &Rig) -> u16 {
    let index = GuestAddress(u64::from(DEVICE_RING) + 2);
    rig.transport.wiring.memory.load(index, Ordering::Acquire).expect("it is memory")
}

fn await_used(rig: &Rig, total: u16) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while used(rig) != total {
        assert!(Instant::now() < deadline, "{} of {total} were used", used(rig));
        std::thread::yield_now();
    }
}

/// A running device that has served so many requests, and is paused then.
fn paused(requests: u16) -> Rig {
    let mut rig = taker();
    assert_eq!(rig.start() & status::DRIVER_OK, status::DRIVER_OK);
    offer(&rig, requests);
    rig.kicks[0].write(1).expect("there is room");
    await_used(&rig, requests);
    rig.transport.pause();
    rig
}

fn saved(rig: &Rig) -> TransportState {
    rig.transport.save().expect("the device has not failed")
}

/// A rig with the same in its memory.
fn copy_of(rig: &Rig) -> Rig {
    let copy = taker();
    let mut bytes = vec![0; 0x10_0000];
    rig.transport.wiring.memory.read_slice(&mut bytes, GuestAddress(0)).expect("it is memory");
    copy.transport.wiring.memory.write_slice(&bytes, GuestAddress(0)).expect("it is memory");
    copy
}

#[test]
fn a_paused_device_goes_on_with_what_came_meanwhile() {
    let mut rig = paused(3);
    let state = saved(&rig);
    assert_eq!((state.queues[0].next_avail, state.queues[0].next_used), (3, 3));
    offer(&rig, 7);
    rig.kicks[0].write(1).expect("there is room");
    assert_eq!(used(&rig), 3);
    rig.transport.resume();
    await_used(&rig, 7);
    assert_eq!(rig.transport.save(), None, "a device that runs cannot be saved");
    for total in 8..20 {
        rig.transport.pause();
        offer(&rig, total);
        rig.transport.resume();
        await_used(&rig, total);
    }
    rig.transport.stop();
}

#[test]
fn a_notification_that_nobody_saw_is_served() {
    let mut rig = paused(1);
    offer(&rig, 2);
    rig.transport.resume();
    await_used(&rig, 2);
    rig.transport.stop();
}

#[test]
fn another_device_goes_on_where_one_was_saved() {
    let mut rig = paused(5);
    rig.transport.wiring.interrupt.signal_config();
    offer(&rig, 9);
    let state = saved(&rig);
    let mut copy = copy_of(&rig);
    copy.transport.restore(&state).expect("it is the same device");
    assert_eq!(saved(&copy), state);
    assert_eq!(copy.get(register::STATUS), rig.get(register::STATUS));
    assert_eq!(copy.get(register::INTERRUPT_STATUS), 3);
    assert_eq!(copy.get(register::QUEUE_READY), 1);
    copy.transport.resume();
    await_used(&copy, 9);
    assert_eq!(used(&rig), 5, "the memories are two");
    copy.set(register::STATUS, 0);
    assert_eq!(copy.start() & status::DRIVER_OK, status::DRIVER_OK);
    copy.transport.stop();
    rig.transport.stop();
}

#[test]
fn a_device_without_a_driver_is_saved_with_its_registers() {
    let mut rig = taker();
    rig.choose_features(FEATURE_VERSION_1);
    rig.set_queue(1, 8, TABLE);
    let state = saved(&rig);
    let mut copy = taker();
    copy.transport.restore(&state).expect("it is the same device");
    assert_eq!(saved(&copy), state);
    copy.transport.pause();
    copy.transport.resume();
    // The driver takes its last steps.
    copy.set_queue(0, 16, TABLE + 0x100);
    assert_eq!(copy.add_status(status::DRIVER_OK) & status::DRIVER_OK, status::DRIVER_OK);
    copy.transport.stop();
}

#[test]
fn a_failed_device_is_not_saved() {
    let mut rig = rig(true);
    rig.start();
    rig.kicks[0].write(1).expect("there is room");
    while rig.get(register::STATUS) & status::NEEDS_RESET == 0 {
        std::thread::yield_now();
    }
    rig.transport.pause();
    assert_eq!(rig.transport.save(), None);
    rig.transport.resume();
    assert_ne!(rig.get(register::STATUS) & status::NEEDS_RESET, 0);
}

#[test]
fn what_cannot_be_is_refused() {
    type Change = fn(&mut TransportState);
    let unfit: [(&str, Change); 4] = [
        ("another device", |state| state.device_id = 2),
        ("more features", |state| state.offered |= 1 << 9),
        ("fewer features", |state| state.offered &= !FEATURE_EVENT_IDX),
        ("fewer queues", |state| state.queues.truncate(1)),
    ];
    let damaged: [(&str, Change); 14] = [
        ("indices that were not agreed on", |state| state.queues[0].event_idx = false),
        ("a feature that was not offered", |state| state.features |= 1 << 9),
        ("no modern driver", |state| state.features = 0),
        ("a step left out", |state| state.status &= !status::FEATURES_OK),
        ("an unknown step", |state| state.status |= 1 << 9),
        ("another largest size", |state| state.queues[0].max_size = 32),
        ("no largest size", |state| state.queues[0].max_size = 0),
        ("a size beyond the largest", |state| state.queues[0].size = 32),
        ("no power of two", |state| state.queues[0].size = 3),
        ("no size", |state| state.queues[1].size = 0),
        ("a queue that is not ready", |state| state.queues[1].ready = false),
        ("a table behind the memory", |state| state.queues[0].addresses[0] = 0xf_fff0),
        ("a ring at the end of all", |state| state.queues[0].addresses[1] = u64::MAX - 1),
        ("a ring that is not aligned", |state| state.queues[0].addresses[2] += 1),
    ];
    let mut rig = paused(2);
    let state = saved(&rig);
    for (name, change) in unfit.into_iter().chain(damaged) {
        let mut changed = state.clone();
        change(&mut changed);
        let mut copy = copy_of(&rig);
        match copy.transport.restore(&changed) {
            Err(SnapshotError::Unfit { .. }) => assert!(unfit.iter().any(|one| one.0 == name)),
            Err(SnapshotError::Damaged { .. }) => assert!(damaged.iter().any(|one| one.0 == name)),
            other => panic!("{name}: {other:?}"),
        }
        copy.transport.stop();
    }
    rig.transport.stop();
}

#[test]
fn a_ring_that_lies_ends_the_device_and_nothing_else() {
    let mut rig = paused(2);
    let mut state = saved(&rig);
    // The driver's ring says 2: the device would have taken what was never offered.
    state.queues[0].next_avail = 3;
    let mut copy = copy_of(&rig);
    copy.transport.restore(&state).expect("nobody can know");
    copy.transport.resume();
    while copy.get(register::STATUS) & status::NEEDS_RESET == 0 {
        std::thread::yield_now();
    }
    copy.transport.stop();
    rig.transport.stop();
}
