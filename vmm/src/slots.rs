//! The places of a machine's network interfaces, which are filled and emptied while its guest runs. A
//! driver ignores a virtio-mmio device whose id reads 0 (virtio 1.2, 4.2.2), so an empty place costs a
//! guest three reads.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::arch::x86_64::layout;
use crate::bus::Bus;
use crate::config::NetConfig;
use crate::error::Error;
use crate::kvm::Vm;
use crate::virtio::mmio::{MmioTransport, TransportState};
use crate::virtio::net::Net;

/// All of them, in their order: the machine's own interface, then the spare ones.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Slot>);

/// A place for an interface.
#[derive(Debug)]
pub(crate) struct Slot {
    device: usize,
    /// What connects it to the guest, until it does: KVM takes its time to connect something.
    unconnected: Option<Connections>,
}

/// What is to be connected before a device is of use.
#[derive(Debug)]
pub(crate) struct Connections {
    /// What raises its interrupt line.
    pub(crate) irq: Arc<EventFd>,
    /// A notification for each of its queues.
    pub(crate) kicks: Vec<EventFd>,
}

/// Why a place was not filled or emptied.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// There is no such place.
    #[error("the machine has no interface {interface}")]
    Unknown {
        /// The number that was given.
        interface: u8,
    },
    /// It has a device already.
    #[error("interface {interface} is plugged already")]
    Taken {
        /// Its number.
        interface: u8,
    },
    /// It has none.
    #[error("interface {interface} is not plugged")]
    Empty {
        /// Its number.
        interface: u8,
    },
    /// KVM refused.
    #[error(transparent)]
    Connect(#[from] Box<Error>),
}

impl Slot {
    /// The place of the machine's device `device`; none is connected later.
    pub(crate) fn new(device: usize, unconnected: Option<Connections>) -> Self {
        Self { device, unconnected }
    }
}

impl Slots {
    /// These places.
    pub(crate) fn new(slots: Vec<Slot>) -> Self {
        Self(slots)
    }

    /// Makes the places what those of a saved machine were, and gives what of `nets` is still to be plugged
    /// in: interface by interface, with what it leads to. A place that was filled and is to lead nowhere is
    /// filled with nothing, for the guest has its device until it lets go of it.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn resemble(
        &mut self,
        states: &[TransportState],
        vm: &mut Vm,
        transports: &mut [MmioTransport],
        nets: impl IntoIterator<Item = NetConfig>,
    ) -> Result<Vec<(u8, NetConfig)>, Error> {
        let (mut nets, mut left) = (nets.into_iter(), Vec::new());
        for (interface, slot) in (0..).zip(&mut self.0) {
            let net = nets.next();
            let was_filled = states.get(slot.device).is_some_and(TransportState::is_filled);
            let Some(transport) = transports.get_mut(slot.device) else { continue };
            transport.unplug();
            if !was_filled {
                left.extend(net.map(|net| (interface, net)));
                continue;
            }
            if let Some(connections) = slot.unconnected.take() {
                connect(vm, slot.device, connections)?;
            }
            transport.plug(Box::new(Net::new(net.unwrap_or_default())));
        }
        Ok(left)
    }

    /// Puts a device into an empty place, and gives its number among all devices.
    ///
    /// # Errors
    /// When there is no such place, it is not empty, or KVM refuses.
    pub(crate) fn plug(
        &mut self,
        vm: &mut Vm,
        bus: &Bus,
        interface: u8,
        net: NetConfig,
    ) -> Result<u8, SlotError> {
        let unknown = SlotError::Unknown { interface };
        let slot = self.0.get_mut(usize::from(interface)).ok_or(unknown)?;
        if let Some(connections) = slot.unconnected.take() {
            connect(vm, slot.device, connections).map_err(Box::new)?;
        }
        if bus.plug(slot.device, Box::new(Net::new(net))) {
            Ok(u8::try_from(slot.device).expect("a machine has at most MAX_DEVICES devices"))
        } else {
            Err(SlotError::Taken { interface })
        }
    }

    /// Takes the device out of a place.
    ///
    /// # Errors
    /// When there is no such place, or it is empty.
    pub(crate) fn unplug(&self, bus: &Bus, interface: u8) -> Result<(), SlotError> {
        let slot = self.0.get(usize::from(interface)).ok_or(SlotError::Unknown { interface })?;
        if bus.unplug(slot.device) { Ok(()) } else { Err(SlotError::Empty { interface }) }
    }
}

fn connect(vm: &mut Vm, device: usize, connections: Connections) -> Result<(), Error> {
    let address = layout::device_address(device);
    for (queue, kick) in (0..).zip(&connections.kicks) {
        vm.connect_queue(kick, address, queue)?;
    }
    vm.connect_interrupt(&connections.irq, layout::device_irq(device))
}
