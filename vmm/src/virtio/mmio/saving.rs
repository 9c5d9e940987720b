//! A transport that is paused, saved as plain data, and restored around another device.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState, QueueT};

use super::super::worker::Worker;
use super::{
    Driver, FEATURE_EVENT_IDX, FEATURE_VERSION_1, MmioTransport, NO_DEVICE, Place, status,
};
use crate::snapshot::SnapshotError;

impl MmioTransport {
    /// Stops the device, if it runs, and keeps what it was doing.
    pub(crate) fn pause(&mut self) {
        self.device = match std::mem::replace(&mut self.device, Place::Lost) {
            Place::Running(worker) => {
                let failed = worker.failed();
                match worker.stop().filter(|_| !failed) {
                    Some((device, activated)) => Place::Paused(device, activated),
                    None => Place::Lost,
                }
            }
            other => other,
        };
    }

    /// Lets a paused device go on.
    pub(crate) fn resume(&mut self) {
        self.device = match std::mem::replace(&mut self.device, Place::Lost) {
            Place::Paused(device, activated) => {
                // Readable since the device was stopped.
                let _ = activated.stop.read();
                // The guest may have notified a queue when nobody looked.
                for kick in &self.wiring.kicks {
                    let _ = kick.write(1);
                }
                match Worker::start(device, activated, self.wiring.console.clone()) {
                    Ok(worker) => Place::Running(worker),
                    Err(_) => Place::Lost,
                }
            }
            other => other,
        };
    }

    /// The state of a device that does not run; none if it has failed.
    pub(crate) fn save(&self) -> Option<TransportState> {
        let registers = || self.driver.queues.iter().map(QueueRegisters::of).collect();
        let (queues, past) = match &self.device {
            Place::Empty => (registers(), 0),
            Place::Idle(device) => (registers(), device.past()),
            Place::Paused(device, activated) => {
                let queues = activated.queues.iter();
                let queues = queues.map(|active| QueueRegisters::of(&active.queue)).collect();
                (queues, device.past())
            }
            Place::Running(_) | Place::Lost => return None,
        };
        Some(TransportState {
            device_id: self.device_id(),
            offered: self.features,
            status: self.driver.status,
            features: self.driver.features,
            pages: [self.driver.device_features_page, self.driver.driver_features_page],
            selected_queue: self.driver.selected_queue as u64,
            queues,
            pending: self.wiring.interrupt.pending(),
            past,
        })
    }

    /// Puts a new device where a saved one was; it runs once it is [resumed](Self::resume).
    ///
    /// # Errors
    /// When the device is another one, or its queues cannot be.
    pub(crate) fn restore(&mut self, state: &TransportState) -> Result<(), SnapshotError> {
        let is_same = state.device_id == self.device_id()
            && state.offered == self.features
            && state.queues.len() == self.driver.queues.len();
        if !is_same {
            return Err(SnapshotError::Unfit { what: "a device is another one" });
        }
        if !state.is_possible() {
            return Err(SnapshotError::Damaged { what: "a device's status" });
        }
        self.follow(state.past)?;
        let damaged = SnapshotError::Damaged { what: "a queue" };
        let mut queues = Vec::with_capacity(state.queues.len());
        for (saved, own) in state.queues.iter().zip(&self.driver.queues) {
            let queue = saved.queue().filter(|queue| queue.max_size() == own.max_size());
            let Some(queue) = queue else { return Err(damaged) };
            queues.push(queue);
        }
        self.driver = Driver {
            status: state.status,
            features: state.features,
            device_features_page: state.pages[0],
            driver_features_page: state.pages[1],
            selected_queue: usize::try_from(state.selected_queue).unwrap_or(usize::MAX),
            queues,
        };
        self.wiring.interrupt.set_pending(state.pending);
        if self.driver.has(status::DRIVER_OK) {
            let event_idx = self.driver.features & FEATURE_EVENT_IDX != 0;
            let is_valid = |queue: &Queue| {
                let memory = &self.wiring.memory;
                queue.ready() && queue.event_idx_enabled() == event_idx && queue.is_valid(memory)
            };
            if !self.driver.queues.iter().all(is_valid) {
                return Err(damaged);
            }
            let what = "make a descriptor";
            let activated =
                self.hand_over().map_err(|source| SnapshotError::Kvm { what, source })?;
            self.device = match std::mem::replace(&mut self.device, Place::Lost) {
                Place::Idle(device) => Place::Paused(device, activated),
                other => other,
            };
        }
        Ok(())
    }
}

impl MmioTransport {
    fn follow(&mut self, past: u32) -> Result<(), SnapshotError> {
        let follows = match &mut self.device {
            Place::Idle(device) => {
                device.follow(past);
                device.past() == past
            }
            _ => past == 0,
        };
        if follows { Ok(()) } else { Err(SnapshotError::Damaged { what: "a device's past" }) }
    }
}

/// The registers of a transport, with the device's place in its queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransportState {
    /// 0 where there is none.
    pub(super) device_id: u32,
    /// The features that the device has, all of which the next one must have.
    pub(super) offered: u64,
    pub(super) status: u32,
    pub(super) features: u64,
    /// Of the device's and the driver's features.
    pub(super) pages: [u32; 2],
    pub(super) selected_queue: u64,
    pub(super) queues: Vec<QueueRegisters>,
    pub(super) pending: u32,
    /// [`VirtioDevice::past`](crate::virtio::device::VirtioDevice::past).
    pub(super) past: u32,
}

impl TransportState {
    /// Whether there is a device.
    pub(crate) fn is_filled(&self) -> bool {
        self.device_id != NO_DEVICE
    }

    /// Whether a driver can have come this far: its steps are taken in order, and with `FEATURES_OK`
    /// it has no feature that it was not offered.
    fn is_possible(&self) -> bool {
        let taken = status::STEPS.map(|step| self.status & step != 0);
        let known = status::STEPS.iter().fold(status::NEEDS_RESET | status::FAILED, |a, b| a | b);
        let agreed = self.status & status::FEATURES_OK == 0
            || self.features & !self.offered == 0 && self.features & FEATURE_VERSION_1 != 0;
        self.status & !known == 0 && taken.is_sorted_by(|one, next| one >= next) && agreed
    }
}

/// `virtio_queue::QueueState`, which cannot be serialised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueRegisters {
    pub(super) max_size: u16,
    pub(super) size: u16,
    pub(super) next_avail: u16,
    pub(super) next_used: u16,
    pub(super) ready: bool,
    pub(super) event_idx: bool,
    /// Descriptors, driver's ring, device's ring.
    pub(super) addresses: [u64; 3],
}

impl QueueRegisters {
    fn of(queue: &Queue) -> Self {
        let state = queue.state();
        Self {
            max_size: state.max_size,
            size: state.size,
            next_avail: state.next_avail,
            next_used: state.next_used,
            ready: state.ready,
            event_idx: state.event_idx_enabled,
            addresses: [state.desc_table, state.avail_ring, state.used_ring],
        }
    }

    /// None if there can be no such queue.
    fn queue(&self) -> Option<Queue> {
        let state = QueueState {
            max_size: self.max_size,
            next_avail: self.next_avail,
            next_used: self.next_used,
            event_idx_enabled: self.event_idx,
            size: self.size,
            ready: self.ready,
            desc_table: self.addresses[0],
            avail_ring: self.addresses[1],
            used_ring: self.addresses[2],
        };
        Queue::try_from(state).ok()
    }
}
