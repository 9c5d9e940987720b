//! The virtio-mmio transport, version 2 (virtio 1.2, 4.2): status, features, queue addresses.

mod saving;
#[cfg(test)]
mod tests;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::{Activated, ActiveQueue, Interrupt, VirtioDevice};
use super::worker::Worker;
use crate::devices::serial::Console;

pub(crate) use self::saving::TransportState;

/// Registers, 4.2.2.
mod register {
    pub(super) const MAGIC_VALUE: u64 = 0x000;
    pub(super) const VERSION: u64 = 0x004;
    pub(super) const DEVICE_ID: u64 = 0x008;
    pub(super) const VENDOR_ID: u64 = 0x00c;
    pub(super) const DEVICE_FEATURES: u64 = 0x010;
    pub(super) const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub(super) const DRIVER_FEATURES: u64 = 0x020;
    pub(super) const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub(super) const QUEUE_SEL: u64 = 0x030;
    pub(super) const QUEUE_NUM_MAX: u64 = 0x034;
    pub(super) const QUEUE_NUM: u64 = 0x038;
    pub(super) const QUEUE_READY: u64 = 0x044;
    pub(super) const QUEUE_NOTIFY: u64 = 0x050;
    pub(super) const INTERRUPT_STATUS: u64 = 0x060;
    pub(super) const INTERRUPT_ACK: u64 = 0x064;
    pub(super) const STATUS: u64 = 0x070;
    pub(super) const QUEUE_DESC_LOW: u64 = 0x080;
    pub(super) const QUEUE_DESC_HIGH: u64 = 0x084;
    pub(super) const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub(super) const QUEUE_DRIVER_HIGH: u64 = 0x094;
    pub(super) const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub(super) const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    pub(super) const SHM_LEN_LOW: u64 = 0x0b0;
    pub(super) const SHM_LEN_HIGH: u64 = 0x0b4;
    pub(super) const CONFIG: u64 = 0x100;
}

/// Status bits, 2.1.
mod status {
    pub(super) const ACKNOWLEDGE: u32 = 1;
    pub(super) const DRIVER: u32 = 2;
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
    pub(super) const NEEDS_RESET: u32 = 64;
    pub(super) const FAILED: u32 = 128;
    /// The order of a driver's steps, 3.1.1.
    pub(super) const STEPS: [u32; 4] = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];
}

/// "virt".
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "hyrn": any number will do.
const VENDOR: u32 = 0x6e72_7968;
/// The id of a device that is not there (4.2.2).
const NO_DEVICE: u32 = 0;
/// A shared memory region that is not there has this length.
const NO_REGION: u32 = u32::MAX;
/// `VIRTIO_F_VERSION_1` (6).
pub(crate) const FEATURE_VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_EVENT_IDX` (6).
pub(crate) const FEATURE_EVENT_IDX: u64 = 1 << 29;

/// What connects a device to its machine.
#[derive(Debug)]
pub(crate) struct Wiring {
    /// The guest's memory.
    pub(crate) memory: GuestMemoryMmap,
    /// The device's interrupt line.
    pub(crate) interrupt: Interrupt,
    /// One notification per queue.
    pub(crate) kicks: Vec<EventFd>,
    /// Where a failure is told.
    pub(crate) console: Console,
}

/// A device's registers, and the device.
pub(crate) struct MmioTransport {
    wiring: Wiring,
    features: u64,
    device_id: u32,
    config: Vec<u8>,
    device: Place,
    driver: Driver,
}

/// Where the device is.
enum Place {
    /// There is none, and none is found here (4.2.2, `DeviceID`).
    Empty,
    /// Here: no driver uses it.
    Idle(Box<dyn VirtioDevice>),
    /// At work.
    Running(Worker),
    /// Here, with all it works with: the machine is paused.
    Paused(Box<dyn VirtioDevice>, Activated),
    /// Nowhere: it could not be started, or its thread panicked.
    Lost,
}

/// What the driver has set so far; a reset makes a new one.
struct Driver {
    status: u32,
    features: u64,
    device_features_page: u32,
    driver_features_page: u32,
    selected_queue: usize,
    queues: Vec<Queue>,
}

impl Driver {
    fn new(queue_sizes: &[u16]) -> Self {
        let queue = |size: &u16| Queue::new(*size).expect("queue sizes are powers of two");
        Self {
            status: 0,
            features: 0,
            device_features_page: 0,
            driver_features_page: 0,
            selected_queue: 0,
            queues: queue_sizes.iter().map(queue).collect(),
        }
    }

    fn has(&self, bits: u32) -> bool {
        self.status & bits == bits
    }

    /// Queues are set up between `FEATURES_OK` and `DRIVER_OK`.
    fn may_set_queues(&self) -> bool {
        self.has(status::FEATURES_OK) && !self.has(status::DRIVER_OK)
    }

    /// Features are chosen between `DRIVER` and `FEATURES_OK`.
    fn may_set_features(&self) -> bool {
        self.has(status::DRIVER) && !self.has(status::FEATURES_OK)
    }
}

impl MmioTransport {
    /// Shows `device` to the guest.
    pub(crate) fn new(device: Box<dyn VirtioDevice>, wiring: Wiring) -> Self {
        let empty = Self::empty(&*device, wiring);
        Self { device: Place::Idle(device), ..empty }
    }

    /// Shows nothing to the guest until a device such as this is [plugged](Self::plug).
    pub(crate) fn empty(device: &dyn VirtioDevice, wiring: Wiring) -> Self {
        Self {
            wiring,
            features: device.features() | FEATURE_VERSION_1 | FEATURE_EVENT_IDX,
            device_id: device.kind().id(),
            config: device.config().to_vec(),
            driver: Driver::new(device.queue_sizes()),
            device: Place::Empty,
        }
    }

    /// Puts a device of the kind it was made for where there is none; whether there was none.
    pub(crate) fn plug(&mut self, device: Box<dyn VirtioDevice>) -> bool {
        let is_empty = matches!(self.device, Place::Empty);
        if is_empty {
            self.reset();
            self.device = Place::Idle(device);
        }
        is_empty
    }

    /// Takes the device away, whatever the driver does with it; whether there was one.
    pub(crate) fn unplug(&mut self) -> bool {
        if matches!(self.device, Place::Empty) {
            return false;
        }
        self.reset();
        self.device = Place::Empty;
        true
    }

    /// Serves a read at `offset`. Registers are 32 bits wide, the configuration space has any
    /// width; what is not there reads 0.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(start) = offset.checked_sub(register::CONFIG) {
            let bytes = usize::try_from(start).ok().and_then(|start| self.config.get(start..));
            let mut bytes = bytes.unwrap_or_default().iter();
            data.fill_with(|| bytes.next().copied().unwrap_or(0));
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(&mut *data) {
            *word = self.read_register(offset).to_le_bytes();
        } else {
            data.fill(0);
        }
    }

    /// Serves a write at `offset`; what is not a register or not 32 bits wide changes nothing.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        if let Ok(word) = data.try_into() {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }

    /// Stops the device, if it runs, and takes it back.
    pub(crate) fn stop(&mut self) {
        self.device = match std::mem::replace(&mut self.device, Place::Lost) {
            Place::Running(worker) => match worker.stop() {
                Some((device, _)) => Place::Idle(device),
                None => Place::Lost,
            },
            Place::Paused(device, _) => Place::Idle(device),
            other => other,
        };
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            register::MAGIC_VALUE => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => self.device_id(),
            register::VENDOR_ID => VENDOR,
            register::DEVICE_FEATURES => word(self.features, self.driver.device_features_page),
            register::QUEUE_NUM_MAX => self.queue().map_or(0, |queue| queue.max_size().into()),
            register::QUEUE_READY => self.queue().map_or(0, |queue| queue.ready().into()),
            register::INTERRUPT_STATUS => self.wiring.interrupt.status(),
            register::STATUS => self.status(),
            register::SHM_LEN_LOW | register::SHM_LEN_HIGH => NO_REGION,
            // Among them `ConfigGeneration`: no configuration space of ours ever changes.
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        let driver = &mut self.driver;
        match offset {
            register::DEVICE_FEATURES_SEL => driver.device_features_page = value,
            register::DRIVER_FEATURES_SEL => driver.driver_features_page = value,
            register::DRIVER_FEATURES if driver.may_set_features() => {
                set_word(&mut driver.features, driver.driver_features_page, value);
            }
            register::QUEUE_SEL => driver.selected_queue = value as usize,
            register::INTERRUPT_ACK => self.wiring.interrupt.acknowledge(value),
            register::STATUS => self.write_status(value),
            register::QUEUE_NOTIFY => {
                if let Place::Running(worker) = &mut self.device {
                    worker.notify(value);
                }
            }
            _ if driver.may_set_queues() => {
                if let Some(queue) = driver.queues.get_mut(driver.selected_queue) {
                    write_queue_register(queue, offset, value);
                }
            }
            _ => {}
        }
    }

    /// What the driver finds.
    fn device_id(&self) -> u32 {
        if matches!(self.device, Place::Empty) { NO_DEVICE } else { self.device_id }
    }

    fn queue(&self) -> Option<&Queue> {
        self.driver.queues.get(self.driver.selected_queue)
    }

    fn status(&self) -> u32 {
        let failed = match &self.device {
            Place::Empty | Place::Idle(_) | Place::Paused(..) => false,
            Place::Running(worker) => worker.failed(),
            Place::Lost => true,
        };
        self.driver.status | if failed { status::NEEDS_RESET } else { 0 }
    }

    /// Takes the steps that `value` adds, in their order; the first that is not allowed is not
    /// taken, nor is any behind it. 0 is a reset.
    fn write_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        self.driver.status |= value & status::FAILED;
        let mut before = 0;
        for step in status::STEPS {
            if value & step != 0 && !self.driver.has(step) {
                if !self.driver.has(before) || !self.take_step(step) {
                    return;
                }
                self.driver.status |= step;
            }
            before |= step;
        }
    }

    fn take_step(&mut self, step: u32) -> bool {
        match step {
            status::FEATURES_OK => {
                let features = self.driver.features;
                features & !self.features == 0 && features & FEATURE_VERSION_1 != 0
            }
            status::DRIVER_OK => {
                let started = self.activate();
                if !started {
                    self.driver.status |= status::NEEDS_RESET;
                }
                started
            }
            _ => true,
        }
    }

    /// Checks the queues and lets the device work on them.
    fn activate(&mut self) -> bool {
        let memory = &self.wiring.memory;
        let usable = |queue: &Queue| queue.ready() && queue.is_valid(memory);
        if !self.driver.queues.iter().all(usable) {
            return false;
        }
        let Ok(activated) = self.hand_over() else { return false };
        match std::mem::replace(&mut self.device, Place::Lost) {
            Place::Idle(device) => {
                match Worker::start(device, activated, self.wiring.console.clone()) {
                    Ok(worker) => {
                        self.device = Place::Running(worker);
                        true
                    }
                    Err(_) => false,
                }
            }
            other => {
                self.device = other;
                false
            }
        }
    }

    /// What the device gets to work with. The transport keeps copies of the queues' registers.
    fn hand_over(&self) -> std::io::Result<Activated> {
        let event_idx = self.driver.features & FEATURE_EVENT_IDX != 0;
        let mut queues = Vec::with_capacity(self.driver.queues.len());
        for (queue, kick) in self.driver.queues.iter().zip(&self.wiring.kicks) {
            let state = queue.state();
            let mut queue = Queue::try_from(state).map_err(std::io::Error::other)?;
            queue.set_event_idx(event_idx);
            queues.push(ActiveQueue { queue, kick: kick.try_clone()? });
        }
        Ok(Activated {
            memory: self.wiring.memory.clone(),
            queues,
            interrupt: self.wiring.interrupt.clone(),
            stop: EventFd::new(EFD_NONBLOCK)?,
            features: self.driver.features,
        })
    }

    fn reset(&mut self) {
        self.stop();
        for kick in &self.wiring.kicks {
            // Empty when nothing was notified.
            let _ = kick.read();
        }
        self.wiring.interrupt.clear();
        let sizes: Vec<u16> = self.driver.queues.iter().map(QueueT::max_size).collect();
        self.driver = Driver::new(&sizes);
    }
}

/// Sets a part of a queue. What does not fit is left, and found by `is_valid` at `DRIVER_OK`.
fn write_queue_register(queue: &mut Queue, offset: u64, value: u32) {
    match offset {
        register::QUEUE_NUM => queue.set_size(u16::try_from(value).unwrap_or(0)),
        register::QUEUE_READY => queue.set_ready(value == 1),
        register::QUEUE_DESC_LOW => queue.set_desc_table_address(Some(value), None),
        register::QUEUE_DESC_HIGH => queue.set_desc_table_address(None, Some(value)),
        register::QUEUE_DRIVER_LOW => queue.set_avail_ring_address(Some(value), None),
        register::QUEUE_DRIVER_HIGH => queue.set_avail_ring_address(None, Some(value)),
        register::QUEUE_DEVICE_LOW => queue.set_used_ring_address(Some(value), None),
        register::QUEUE_DEVICE_HIGH => queue.set_used_ring_address(None, Some(value)),
        _ => {}
    }
}

/// The 32 bits of `value` that `page` selects.
#[allow(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
fn word(value: u64, page: u32) -> u32 {
    match page {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

/// Sets the 32 bits of `value` that `page` selects.
fn set_word(value: &mut u64, page: u32, word: u32) {
    match page {
        0 => *value = (*value & !0xffff_ffff) | u64::from(word),
        1 => *value = (*value & 0xffff_ffff) | (u64::from(word) << 32),
        _ => {}
    }
}
