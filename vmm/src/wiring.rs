//! A machine's devices, and what connects them to their guest.

use std::sync::Arc;
use std::time::Instant;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::arch::x86_64::layout;
use crate::config::{DiskConfig, DiskLimits, NetConfig, VsockConfig};
use crate::devices::serial::Console;
use crate::error::Error;
use crate::kvm::{self, Vm};
use crate::slots::{Connections, Slot, Slots};
use crate::virtio::balloon::Balloon;
use crate::virtio::block::Block;
use crate::virtio::block::pace::Pace;
use crate::virtio::device::{DeviceKind, Interrupt, Server, VirtioDevice};
use crate::virtio::mmio::{MmioTransport, Wiring};
use crate::virtio::net::Net;
use crate::virtio::rng::Rng;
use crate::virtio::vsock::Vsock;

/// A virtual machine with its devices.
pub(crate) struct Wired {
    pub(crate) vm: Vm,
    pub(crate) transports: Vec<MmioTransport>,
    pub(crate) slots: Slots,
    /// The UART's interrupt.
    pub(crate) uart_irq: Arc<EventFd>,
}

/// Makes a virtual machine with its devices, and so many places for more interfaces.
pub(crate) fn wire(
    memory: &GuestMemoryMmap,
    console: &Console,
    devices: Vec<Box<dyn VirtioDevice>>,
    spare: usize,
) -> Result<Wired, Error> {
    let mut vm = Vm::create(memory)?;
    let (first_spare, own) =
        (devices.len(), devices.iter().position(|device| device.kind() == DeviceKind::Net));
    let mut transports = attach(&mut vm, memory, console, devices)?;
    let mut slots: Vec<_> = own.map(|device| Slot::new(device, None)).into_iter().collect();
    for device in first_spare..first_spare + spare {
        let (transport, connections) = leave_empty(memory, console)?;
        transports.push(transport);
        slots.push(Slot::new(device, Some(connections)));
    }
    let uart_irq = vm.irqfd(layout::SERIAL_IRQ)?;
    Ok(Wired { vm, transports, slots: Slots::new(slots), uart_irq })
}

/// A place for an interface, and what is to be connected before it is filled.
fn leave_empty(
    memory: &GuestMemoryMmap,
    console: &Console,
) -> Result<(MmioTransport, Connections), Error> {
    let device = Net::new(NetConfig::default());
    let irq = Arc::new(kvm::event_fd()?);
    let kick = |_: &u16| kvm::event_fd();
    let kicks = device.queue_sizes().iter().map(kick).collect::<Result<Vec<_>, _>>()?;
    let clones = kicks.iter().map(EventFd::try_clone).collect::<Result<_, _>>();
    let wiring = Wiring {
        memory: memory.clone(),
        interrupt: Interrupt::new(Arc::clone(&irq)),
        kicks: clones.map_err(Error::host("copy an event descriptor"))?,
        console: console.clone(),
    };
    Ok((MmioTransport::empty(&device, wiring), Connections { irq, kicks }))
}

/// What devices are made of.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) disks: Vec<DiskConfig>,
    pub(crate) disk_limits: DiskLimits,
    pub(crate) vsock: Option<VsockConfig>,
    pub(crate) net: Option<NetConfig>,
}

/// The devices in the guest's order: disks, so that their names are known, then the others.
pub(crate) fn devices(parts: Parts) -> Result<Vec<Box<dyn VirtioDevice>>, Error> {
    let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::with_capacity(parts.disks.len() + 4);
    let pace = Pace::new(parts.disk_limits, Instant::now()).map(Arc::new);
    for disk in parts.disks {
        let id = disk.id.clone();
        let block = Block::open(disk).map_err(|source| Error::Disk { id, source })?;
        devices.push(Box::new(block.with_pace(pace.clone())));
    }
    if let Some(config) = parts.vsock {
        devices.push(Box::new(Vsock::new(config)));
    }
    if let Some(config) = parts.net {
        devices.push(Box::new(Net::new(config)));
    }
    devices.push(Box::new(Rng));
    devices.push(Box::new(Balloon));
    Ok(devices)
}

/// Gives each device its place, its interrupt line and its queues' notifications.
fn attach(
    vm: &mut Vm,
    memory: &GuestMemoryMmap,
    console: &Console,
    devices: Vec<Box<dyn VirtioDevice>>,
) -> Result<Vec<MmioTransport>, Error> {
    let mut transports = Vec::with_capacity(devices.len());
    for (index, device) in devices.into_iter().enumerate() {
        let address = layout::device_address(index);
        let kicks = (0..)
            .zip(device.queue_sizes())
            .map(|(queue, _)| match device.server() {
                Server::OwnThread => vm.queue_kick(address, queue),
                // The vCPU leaves the guest for it, and tells the transport.
                Server::Notifier => kvm::event_fd(),
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let wiring = Wiring {
            memory: memory.clone(),
            interrupt: Interrupt::new(vm.irqfd(layout::device_irq(index))?),
            kicks,
            console: console.clone(),
        };
        transports.push(MmioTransport::new(device, wiring));
    }
    Ok(transports)
}
