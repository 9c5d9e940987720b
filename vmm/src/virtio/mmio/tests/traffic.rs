//! A disk that is paused again and again while its driver writes and reads, and then moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread;
use std::time::Instant;

use vm_memory::Bytes;

use super::super::super::block::Block;
use super::super::super::block::pace::Pace;
use super::*;
use crate::config::{DiskBacking, DiskConfig, DiskLimits};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 48;
/// Three descriptors each, of sixteen.
const AT_ONCE: usize = 5;
const HEADERS: u64 = 0x8000;
const STATUSES: u64 = 0x9000;
const DATA: u64 = 0x1_0000;
const WRITE: u16 = 2;
const NEXT: u16 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read = 0,
    Write = 1,
}

/// The driver of a disk: knows the rings and nothing of the transport.
struct Driver {
    memory: GuestMemoryMmap,
    kick: EventFd,
    offered: u16,
}

impl Driver {
    fn put<T: vm_memory::ByteValued>(&self, address: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(address)).expect("it is memory");
    }

    fn describe(&self, index: u16, address: u64, bytes: u32, flags: u16) {
        let at = u64::from(TABLE) + 16 * u64::from(index);
        self.put(at, address);
        self.put(at + 8, bytes);
        self.put(at + 12, flags);
        self.put(at + 14, index + 1);
    }

    /// Asks for these blocks at once, and waits until all are done.
    fn transfer(&mut self, kind: Kind, blocks: &[u64]) {
        for (index, block) in (0..).zip(blocks) {
            let (header, head) = (HEADERS + 16 * u64::from(index), 3 * index);
            self.put(header, kind as u64);
            self.put(header + 8, block * 8);
            self.put(STATUSES + u64::from(index), 0xeeu8);
            let data = DATA + BLOCK as u64 * u64::from(index);
            let flags = if kind == Kind::Read { WRITE } else { 0 };
            self.describe(head, header, 16, NEXT);
            self.describe(head + 1, data, 4096, NEXT | flags);
            self.describe(head + 2, STATUSES + u64::from(index), 1, WRITE);
            let slot = u64::from(self.offered.wrapping_add(index) % 16);
            self.put(u64::from(DRIVER_RING) + 4 + 2 * slot, head);
        }
        let count = u16::try_from(blocks.len()).expect("a few");
        self.offered = self.offered.wrapping_add(count);
        let index = GuestAddress(u64::from(DRIVER_RING) + 2);
        self.memory.store(self.offered, index, Ordering::Release).expect("it is memory");
        self.notify(count);
        let deadline = Instant::now() + Duration::from_secs(20);
        let used = GuestAddress(u64::from(DEVICE_RING) + 2);
        while self.memory.load::<u16>(used, Ordering::Acquire).expect("memory") != self.offered {
            assert!(Instant::now() < deadline, "the disk does not answer");
            thread::yield_now();
        }
        for index in 0..u64::from(count) {
            let status: u8 = self.memory.read_obj(GuestAddress(STATUSES + index)).expect("memory");
            assert_eq!(status, 0, "request {index}");
        }
    }

    /// Notifies the disk of so many new requests, if it wants to be: as Linux does, so that what it forgets
    /// to wish for is found out (virtio 1.2, 2.7.10).
    fn notify(&self, count: u16) {
        fence(Ordering::SeqCst);
        let wished = GuestAddress(u64::from(DEVICE_RING) + 4 + 8 * 16);
        let wished: u16 = self.memory.load(wished, Ordering::SeqCst).expect("it is memory");
        if self.offered.wrapping_sub(wished).wrapping_sub(1) < count {
            self.kick.write(1).expect("there is room");
        }
    }

    fn write(&mut self, blocks: &[u64], content: impl Fn(u64) -> u8) {
        for (index, block) in (0..).zip(blocks) {
            let bytes = [content(*block); BLOCK];
            let at = GuestAddress(DATA + BLOCK as u64 * index);
            self.memory.write_slice(&bytes, at).expect("it is memory");
        }
        self.transfer(Kind::Write, blocks);
    }

    #[track_caller]
    fn reads(&mut self, blocks: &[u64], content: impl Fn(u64) -> u8) {
        self.transfer(Kind::Read, blocks);
        for (index, block) in (0..).zip(blocks) {
            let mut bytes = [0; BLOCK];
            let at = GuestAddress(DATA + BLOCK as u64 * index);
            self.memory.read_slice(&mut bytes, at).expect("it is memory");
            assert!(bytes == [content(*block); BLOCK], "block {block}");
        }
    }
}

fn disk(overlay: &std::fs::File) -> Rig {
    paced_disk(overlay, DiskLimits::default())
}

fn paced_disk(overlay: &std::fs::File, limits: DiskLimits) -> Rig {
    let backing = DiskBacking::CopyOnWrite {
        base: None,
        base_bytes: 0,
        overlay: overlay.try_clone().expect("a descriptor"),
        usable_bytes: BLOCKS * BLOCK as u64,
        capacity_bytes: BLOCKS * BLOCK as u64,
    };
    let block = Block::open(DiskConfig { backing, id: "scratch".to_owned() });
    let pace = Pace::new(limits, Instant::now()).map(Arc::new);
    rig_of(Box::new(block.expect("the overlay is sound").with_pace(pace)))
}

fn driver(rig: &Rig, offered: u16) -> Driver {
    let kick = rig.kicks[0].try_clone().expect("a descriptor");
    Driver { memory: rig.transport.wiring.memory.clone(), kick, offered }
}

/// Writes every block in rounds and reads all of them back; what is in them then.
fn work(driver: &mut Driver, rounds: u8) -> impl Fn(u64) -> u8 + use<> {
    let content = |round: u8| {
        move |block| round.wrapping_mul(31) ^ u8::try_from(block).expect("the disk is small")
    };
    let all: Vec<u64> = (0..BLOCKS).collect();
    for round in 1..=rounds {
        all.chunks(AT_ONCE).for_each(|some| driver.write(some, content(round)));
        all.chunks(AT_ONCE).rev().for_each(|some| driver.reads(some, content(round)));
    }
    content(rounds)
}

fn begin(rig: &mut Rig) {
    rig.choose_features(FEATURE_VERSION_1 | FEATURE_EVENT_IDX);
    rig.set_queue(0, 16, TABLE);
    assert_eq!(rig.add_status(status::DRIVER_OK) & status::DRIVER_OK, status::DRIVER_OK);
}

#[test]
fn every_byte_survives_pauses_and_a_move() {
    let overlay = tempfile::tempfile().expect("a file");
    let mut rig = disk(&overlay);
    begin(&mut rig);
    let (mut disks_driver, done) = (driver(&rig, 0), AtomicBool::new(false));
    let mut pauses = 0;
    let content = thread::scope(|scope| {
        let working = scope.spawn(|| {
            let content = work(&mut disks_driver, 4);
            done.store(true, Ordering::SeqCst);
            content
        });
        while !done.load(Ordering::SeqCst) && !working.is_finished() {
            rig.transport.pause();
            assert!(rig.transport.save().is_some(), "the disk has failed");
            rig.transport.resume();
            pauses += 1;
        }
        working.join().expect("the driver is content")
    });
    assert!(pauses > 5, "{pauses} pauses");
    rig.transport.pause();
    let state = rig.transport.save().expect("the disk has not failed");

    let mut moved = disk(&overlay);
    let mut bytes = vec![0; 0x10_0000];
    disks_driver.memory.read_slice(&mut bytes, GuestAddress(0)).expect("it is memory");
    moved.transport.wiring.memory.write_slice(&bytes, GuestAddress(0)).expect("it is memory");
    rig.transport.stop();
    moved.transport.restore(&state).expect("it is the same disk");
    moved.transport.resume();
    let mut disks_driver = driver(&moved, disks_driver.offered);
    for block in 0..BLOCKS {
        disks_driver.reads(&[block], &content);
    }
    disks_driver.write(&[7], |_| 0x77);
    disks_driver.reads(&[7], |_| 0x77);
    moved.transport.stop();
}

#[test]
fn a_limited_disk_takes_its_time_in_one_direction() {
    let overlay = tempfile::tempfile().expect("a file");
    let limits = DiskLimits { write_requests: Some(20), ..DiskLimits::default() };
    let mut rig = paced_disk(&overlay, limits);
    begin(&mut rig);
    let mut driver = driver(&rig, 0);
    let begun = Instant::now();
    driver.write(&[0, 1, 2, 3, 4], |block| u8::try_from(block).expect("it is small"));
    // The fifth is due after 200 ms, and may begin 100 ms before.
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    driver.reads(&[0, 1, 2, 3, 4], |block| u8::try_from(block).expect("it is small"));
    rig.transport.stop();
}

#[test]
fn a_disk_that_is_paused_has_nothing_in_hand() {
    let overlay = tempfile::tempfile().expect("a file");
    let limits = DiskLimits { read_bytes: Some(1), ..DiskLimits::default() };
    let mut rig = paced_disk(&overlay, limits);
    begin(&mut rig);
    let mut driver = driver(&rig, 0);
    thread::scope(|scope| {
        // Each block but the first is due after an hour; nobody waits so long for a pause.
        let reading = scope.spawn(|| driver.reads(&[0, 1, 2, 3, 4], |_| 0));
        while !reading.is_finished() {
            rig.transport.pause();
            assert!(rig.transport.save().is_some(), "the disk has failed");
            rig.transport.resume();
        }
    });
    rig.transport.stop();
}
