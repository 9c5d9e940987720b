//! The transport as a driver sees it, in and out of order.

mod notified;
mod plugging;
mod saving;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use vm_memory::GuestAddress;

use super::super::device::{DeviceError, DeviceKind};
use super::super::poll::{Poll, Wake};
use super::*;

const TABLE: u32 = 0x1000;
const DRIVER_RING: u32 = 0x2000;
const DEVICE_RING: u32 = 0x3000;

/// A device that counts its runs, tells of each kick, and fails when told to.
struct Fake {
    runs: Arc<AtomicUsize>,
    kicked: mpsc::Sender<usize>,
    fails: bool,
}

impl VirtioDevice for Fake {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn features(&self) -> u64 {
        1 << 5
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 8]
    }

    fn config(&self) -> &[u8] {
        &[1, 2, 3, 4, 5]
    }

    fn run(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let mut poll = Poll::new(activated)?;
        loop {
            match poll.wait(activated)? {
                Wake::Source => {}
                Wake::Stop => return Ok(()),
                Wake::Queue(_) if self.fails => {
                    return Err(DeviceError::Protocol { what: "told to fail" });
                }
                Wake::Queue(queue) => {
                    self.kicked.send(queue).expect("the test listens");
                }
            }
        }
    }
}

struct Rig {
    transport: MmioTransport,
    kicks: Vec<EventFd>,
    irq: Arc<EventFd>,
    console: Console,
    runs: Arc<AtomicUsize>,
    kicked: Receiver<usize>,
}

fn event_fd() -> EventFd {
    EventFd::new(EFD_NONBLOCK).expect("a descriptor")
}

fn rig(fails: bool) -> Rig {
    let (sender, kicked) = mpsc::channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let device = Fake { runs: Arc::clone(&runs), kicked: sender, fails };
    Rig { runs, kicked, ..rig_of(Box::new(device)) }
}

/// A transport for this device, which has two queues at most.
fn rig_of(device: Box<dyn VirtioDevice>) -> Rig {
    let kicks = vec![event_fd(), event_fd()];
    let irq = Arc::new(event_fd());
    let console = Console::new(None);
    let ranges = [(GuestAddress(0), 0x10_0000)];
    let wiring = Wiring {
        memory: GuestMemoryMmap::from_ranges(&ranges).expect("memory is there"),
        interrupt: Interrupt::new(Arc::clone(&irq)),
        kicks: kicks.iter().map(|kick| kick.try_clone().expect("a descriptor")).collect(),
        console: console.clone(),
    };
    let transport = MmioTransport::new(device, wiring);
    let (runs, kicked) = (Arc::default(), mpsc::channel().1);
    Rig { transport, kicks, irq, console, runs, kicked }
}

impl Rig {
    fn get(&self, register: u64) -> u32 {
        let mut data = [0xaa; 4];
        self.transport.read(register, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, register: u64, value: u32) {
        self.transport.write(register, &value.to_le_bytes());
    }

    fn add_status(&mut self, bits: u32) -> u32 {
        let status = self.get(register::STATUS) | bits;
        self.set(register::STATUS, status);
        self.get(register::STATUS)
    }

    fn choose_features(&mut self, features: u64) -> u32 {
        self.set(register::STATUS, 0);
        self.add_status(status::ACKNOWLEDGE);
        self.add_status(status::DRIVER);
        for page in [0, 1] {
            self.set(register::DRIVER_FEATURES_SEL, page);
            self.set(register::DRIVER_FEATURES, word(features, page));
        }
        self.add_status(status::FEATURES_OK)
    }

    fn set_queue(&mut self, queue: u32, size: u32, table: u32) {
        self.set(register::QUEUE_SEL, queue);
        self.set(register::QUEUE_NUM, size);
        self.set(register::QUEUE_DESC_LOW, table);
        self.set(register::QUEUE_DESC_HIGH, 0);
        self.set(register::QUEUE_DRIVER_LOW, DRIVER_RING + 0x100 * queue);
        self.set(register::QUEUE_DEVICE_LOW, DEVICE_RING + 0x100 * queue);
        self.set(register::QUEUE_READY, 1);
    }

    fn start(&mut self) -> u32 {
        self.choose_features(FEATURE_VERSION_1 | FEATURE_EVENT_IDX);
        self.set_queue(0, 16, TABLE);
        self.set_queue(1, 8, TABLE + 0x100);
        self.add_status(status::DRIVER_OK)
    }

    fn next_kick(&self) -> usize {
        self.kicked.recv_timeout(Duration::from_secs(10)).expect("the device was kicked")
    }
}

#[test]
fn the_device_introduces_itself() {
    let mut rig = rig(false);
    assert_eq!(rig.get(register::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(rig.get(register::VERSION), 2);
    assert_eq!(rig.get(register::DEVICE_ID), 4);
    assert_eq!(rig.get(register::DEVICE_FEATURES), (1 << 5) | (1 << 29));
    rig.set(register::DEVICE_FEATURES_SEL, 1);
    assert_eq!(rig.get(register::DEVICE_FEATURES), 1);
    rig.set(register::DEVICE_FEATURES_SEL, 2);
    assert_eq!(rig.get(register::DEVICE_FEATURES), 0);
    for (queue, size) in [(0, 16), (1, 8), (2, 0), (u32::MAX, 0)] {
        rig.set(register::QUEUE_SEL, queue);
        assert_eq!(rig.get(register::QUEUE_NUM_MAX), size);
    }
    assert_eq!(rig.get(register::SHM_LEN_LOW), u32::MAX);
    assert_eq!(rig.get(0xfc), 0);
}

#[test]
fn accesses_of_any_width_are_answered() {
    let mut rig = rig(false);
    let cases: [(u64, usize, &[u8]); 6] = [
        (0x100, 4, &[1, 2, 3, 4]),
        (0x103, 4, &[4, 5, 0, 0]),
        (0x104, 1, &[5]),
        (0xfff, 8, &[0; 8]),
        (0x000, 1, &[0]),
        (0x000, 8, &[0; 8]),
    ];
    for (offset, width, expected) in cases {
        let mut data = vec![0xaa; width];
        rig.transport.read(offset, &mut data);
        assert_eq!(data, expected, "{offset:#x}");
    }
    rig.transport.write(register::STATUS, &[1]);
    rig.transport.write(0x100, &[9, 9, 9, 9]);
    assert_eq!(rig.get(register::STATUS), 0);
    assert_eq!(rig.get(register::CONFIG), 0x0403_0201);
}

#[test]
fn a_driver_takes_its_steps_in_order() {
    let mut rig = rig(false);
    // Not before the step before.
    for early in [status::DRIVER, status::FEATURES_OK, status::DRIVER_OK] {
        rig.set(register::STATUS, early);
        assert_eq!(rig.get(register::STATUS), 0);
    }
    // No step back but by a reset.
    rig.add_status(status::ACKNOWLEDGE);
    rig.add_status(status::DRIVER);
    rig.set(register::STATUS, status::ACKNOWLEDGE);
    assert_eq!(rig.get(register::STATUS), status::ACKNOWLEDGE | status::DRIVER);
    rig.set(register::STATUS, 0);
    assert_eq!(rig.get(register::STATUS), 0);
    rig.set(register::STATUS, status::FAILED);
    assert_eq!(rig.get(register::STATUS), status::FAILED);
}

#[test]
fn features_are_ours_and_modern() {
    let mut rig = rig(false);
    let before = status::ACKNOWLEDGE | status::DRIVER;
    for (features, expected) in [
        (FEATURE_VERSION_1, before | status::FEATURES_OK),
        (FEATURE_VERSION_1 | (1 << 5), before | status::FEATURES_OK),
        (FEATURE_VERSION_1 | (1 << 6), before),
        (FEATURE_EVENT_IDX, before),
    ] {
        assert_eq!(rig.choose_features(features), expected, "{features:#x}");
    }
}

#[test]
fn queues_are_set_between_features_and_driver_ok_only() {
    let mut rig = rig(false);
    rig.set_queue(0, 4, TABLE);
    assert_eq!(rig.get(register::QUEUE_READY), 0);
    rig.start();
    rig.set(register::QUEUE_SEL, 0);
    rig.set(register::QUEUE_READY, 0);
    assert_eq!(rig.get(register::QUEUE_READY), 1);
    rig.transport.stop();
}

#[test]
fn bad_queues_need_a_reset() {
    let cases: [(u32, u32); 4] = [
        (3, TABLE),              // no power of two: the largest stays, which reaches too far
        (16, 0xf_fff0),          // the table ends behind the memory
        (16, 0xffff_fff0),       // the table is nowhere
        (0x1_0010, 0xffff_0000), // a size beyond 16 bits
    ];
    for (size, table) in cases {
        let mut rig = rig(false);
        rig.choose_features(FEATURE_VERSION_1);
        rig.set_queue(0, 16, TABLE);
        rig.set_queue(1, size, table);
        if size == 3 {
            rig.set(register::QUEUE_READY, 0);
        }
        let status = rig.add_status(status::DRIVER_OK);
        assert_ne!(status & status::NEEDS_RESET, 0, "{size} {table:#x}");
        assert_eq!(status & status::DRIVER_OK, 0, "{size} {table:#x}");
        assert_eq!(rig.runs.load(Ordering::SeqCst), 0);
        // After it, all is well.
        assert_eq!(rig.start() & (status::DRIVER_OK | status::NEEDS_RESET), status::DRIVER_OK);
        rig.transport.stop();
    }
}

#[test]
fn a_device_runs_stops_and_runs_again() {
    let mut rig = rig(false);
    for run in 1..=3 {
        let status = rig.start();
        assert_eq!(status & status::DRIVER_OK, status::DRIVER_OK);
        rig.kicks[1].write(1).expect("there is room");
        assert_eq!(rig.next_kick(), 1);
        rig.set(register::STATUS, 0);
        assert_eq!(rig.get(register::STATUS), 0);
        assert_eq!(rig.get(register::QUEUE_READY), 0);
        assert_eq!(rig.runs.load(Ordering::SeqCst), run);
    }
}

#[test]
fn a_reset_forgets_what_was_notified() {
    let mut rig = rig(false);
    rig.kicks[0].write(1).expect("there is room");
    rig.set(register::STATUS, 0);
    assert!(rig.kicks[0].read().is_err());
}

#[test]
fn a_failed_device_asks_for_a_reset_and_says_why() {
    let mut rig = rig(true);
    rig.start();
    assert_eq!(rig.get(register::INTERRUPT_STATUS), 1);
    rig.kicks[0].write(1).expect("there is room");
    while rig.get(register::STATUS) & status::NEEDS_RESET == 0 {
        std::thread::yield_now();
    }
    // The flag is set before the interrupt; taking the device back waits for its thread.
    rig.transport.stop();
    assert_eq!(rig.irq.read().expect("it was raised"), 1);
    assert_eq!(rig.get(register::INTERRUPT_STATUS), 3);
    rig.set(register::INTERRUPT_ACK, 3);
    assert_eq!(rig.get(register::INTERRUPT_STATUS), 1);
    assert!(rig.console.last_lines().contains("told to fail"));
    rig.start();
    assert_eq!(rig.get(register::STATUS) & status::NEEDS_RESET, 0);
    rig.transport.stop();
}
