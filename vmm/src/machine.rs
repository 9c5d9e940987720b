//! A machine: made from its configuration, run to its end.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use kvm_ioctls::VcpuFd;
use vm_memory::GuestMemoryMmap;

use crate::arch::x86_64::{boot_params, layout, mptable, regs};
use crate::bus::Bus;
use crate::command_line;
use crate::config::{
    DiskConfig, MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, MachineConfig, VsockConfig,
};
use crate::devices::serial::{self, Console};
use crate::error::{ConfigError, Error};
use crate::event::Event;
use crate::exit::Exit;
use crate::kick;
use crate::kvm::Vm;
use crate::loader;
use crate::memory;
use crate::vcpu::RunningVcpu;
use crate::virtio::block::Block;
use crate::virtio::device::{Interrupt, VirtioDevice};
use crate::virtio::mmio::{MmioTransport, Wiring};
use crate::virtio::rng::Rng;
use crate::virtio::vsock::Vsock;
use crate::wake::{Ending, Wake};

/// How many messages may wait for the machine's own thread before vCPUs wait for it.
const WAKES: usize = 64;

/// A machine that has not been started: it has no threads but owns everything it is made of.
pub struct Machine {
    vcpus: Vec<VcpuFd>,
    bus: Arc<Bus>,
    console: Console,
    events: File,
    wakes: Receiver<Wake>,
    wake_sender: SyncSender<Wake>,
    vm: Vm,
}

impl Machine {
    /// Makes a machine with its kernel loaded.
    ///
    /// # Errors
    /// When the configuration asks for too much, there is no fit KVM, a file cannot be used, or
    /// the host refuses.
    pub fn new(config: MachineConfig) -> Result<Self, Error> {
        check(&config)?;
        let MachineConfig { memory_mib, vcpus, mut kernel, initramfs, trace, events, .. } = config;
        let memory_bytes = u64::from(memory_mib) << 20;
        let memory = memory::allocate(memory_bytes)
            .map_err(|source| Error::Memory { mib: memory_mib, source })?;
        let vm = Vm::create(&memory)?;
        let (wake_sender, wakes) = mpsc::sync_channel(WAKES);
        let console = Console::new(trace.then(|| wake_sender.clone()));

        let devices = devices(config.disks, config.vsock)?;
        let command_line = command_line::build(trace, devices.len(), &config.command_line);
        let transports = attach(&vm, &memory, &console, devices)?;
        let uart = serial::uart(&console, vm.irqfd(layout::SERIAL_IRQ)?);
        let bus = Arc::new(Bus::new(uart, transports, wake_sender.clone()));

        let kernel = loader::load_kernel(&memory, &mut kernel, &command_line)?;
        let initramfs = match initramfs {
            Some(mut file) => Some(loader::load_initramfs(&memory, memory_bytes, &mut file)?),
            None => None,
        };
        boot_params::write(&memory, memory_bytes, &kernel, initramfs).map_err(Error::BootTables)?;
        mptable::write(&memory, vcpus).map_err(Error::BootTables)?;
        regs::write_tables(&memory).map_err(Error::BootTables)?;
        let vcpus = vm.create_vcpus(vcpus, kernel.entry)?;
        Ok(Self { vcpus, bus, console, events, wakes, wake_sender, vm })
    }

    /// Runs the machine to its end and reports what happens on the way.
    ///
    /// # Errors
    /// When the host refuses a thread, or nobody reads the events.
    pub fn run(self) -> Result<Exit, Error> {
        let Self { vcpus, bus, console, mut events, wakes, wake_sender, vm } = self;
        kick::install().map_err(Error::host("install the signal handler for vCPUs"))?;
        let running = start(vcpus, &bus, &wake_sender)?;
        let outcome = serve(&wakes, &mut events);
        // A vCPU may be waiting for room to trace a line; without a reader it does not.
        drop(wakes);
        stop(running);
        bus.stop();
        drop(vm);
        let exit = match outcome? {
            Ending::Exit(exit) => exit,
            Ending::Panic => Exit::Panic { console_tail: console.last_lines() },
        };
        report_end(&mut events, &console, exit)
    }
}

/// Refuses what no machine has.
fn check(config: &MachineConfig) -> Result<(), ConfigError> {
    if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&config.memory_mib) {
        return Err(ConfigError::Memory { mib: config.memory_mib });
    }
    if !(1..=MAX_VCPUS).contains(&config.vcpus) {
        return Err(ConfigError::Vcpus { vcpus: config.vcpus });
    }
    let devices = config.disks.len() + usize::from(config.vsock.is_some()) + 1;
    if devices > layout::MAX_DEVICES {
        return Err(ConfigError::Devices { devices });
    }
    Ok(())
}

/// The devices in the guest's order: disks, so that their names are known, then the others.
fn devices(
    disks: Vec<DiskConfig>,
    vsock: Option<VsockConfig>,
) -> Result<Vec<Box<dyn VirtioDevice>>, Error> {
    let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::with_capacity(disks.len() + 2);
    for disk in disks {
        let id = disk.id.clone();
        let block = Block::open(disk).map_err(|source| Error::Disk { id, source })?;
        devices.push(Box::new(block));
    }
    if let Some(config) = vsock {
        devices.push(Box::new(Vsock::new(config)));
    }
    devices.push(Box::new(Rng));
    Ok(devices)
}

/// Gives each device its place, its interrupt line and its queues' notifications.
fn attach(
    vm: &Vm,
    memory: &GuestMemoryMmap,
    console: &Console,
    devices: Vec<Box<dyn VirtioDevice>>,
) -> Result<Vec<MmioTransport>, Error> {
    let mut transports = Vec::with_capacity(devices.len());
    for (index, device) in devices.into_iter().enumerate() {
        let address = layout::device_address(index);
        let kicks = (0..)
            .zip(device.queue_sizes())
            .map(|(queue, _)| vm.queue_kick(address, queue))
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

/// Starts all vCPUs; stops those already running when one cannot be.
fn start(
    vcpus: Vec<VcpuFd>,
    bus: &Arc<Bus>,
    wakes: &SyncSender<Wake>,
) -> Result<Vec<RunningVcpu>, Error> {
    let mut running = Vec::with_capacity(vcpus.len());
    for (index, vcpu) in vcpus.into_iter().enumerate() {
        match RunningVcpu::start(index, vcpu, Arc::clone(bus), wakes.clone()) {
            Ok(vcpu) => running.push(vcpu),
            Err(error) => {
                stop(running);
                return Err(Error::host("start a vCPU's thread")(error));
            }
        }
    }
    Ok(running)
}

/// Gets all vCPUs out of the guest.
fn stop(running: Vec<RunningVcpu>) {
    for vcpu in &running {
        vcpu.kick();
    }
    for vcpu in running {
        vcpu.join();
    }
}

/// Reports what happens until the first vCPU comes to an end.
fn serve(wakes: &Receiver<Wake>, events: &mut File) -> Result<Ending, Error> {
    Event::Running.write_to(events)?;
    loop {
        match wakes.recv() {
            Ok(Wake::AgentReady) => Event::AgentReady.write_to(events)?,
            Ok(Wake::Console(line)) => Event::Console(line).write_to(events)?,
            Ok(Wake::Ended(ending)) => return Ok(ending),
            Err(mpsc::RecvError) => {
                let message = "all vCPUs are gone".to_owned();
                return Ok(Ending::Exit(Exit::InternalError { message }));
            }
        }
    }
}

/// Reports the console's tail, or what of it has not been traced, and the end.
fn report_end(events: &mut File, console: &Console, exit: Exit) -> Result<Exit, Error> {
    let rest = console.unreported();
    if !rest.is_empty() {
        Event::Console(rest).write_to(events)?;
    }
    Event::Ended(exit.clone()).write_to(events)?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(memory_mib: u32, vcpus: u8, disks: usize) -> MachineConfig {
        let file = || File::open("/dev/null").expect("it is always there");
        let disk = || DiskConfig {
            backing: crate::config::DiskBacking::ReadOnly(Vec::new()),
            id: String::new(),
        };
        MachineConfig {
            memory_mib,
            vcpus,
            kernel: file(),
            initramfs: None,
            command_line: String::new(),
            disks: (0..disks).map(|_| disk()).collect(),
            vsock: None,
            events: file(),
            trace: false,
        }
    }

    #[test]
    fn impossible_machines_are_refused() {
        assert!(check(&config(512, 1, 18)).is_ok());
        assert!(matches!(check(&config(1, 1, 0)), Err(ConfigError::Memory { mib: 1 })));
        assert!(matches!(check(&config(2 << 20, 1, 0)), Err(ConfigError::Memory { .. })));
        assert!(matches!(check(&config(512, 0, 0)), Err(ConfigError::Vcpus { vcpus: 0 })));
        assert!(matches!(check(&config(512, 33, 0)), Err(ConfigError::Vcpus { vcpus: 33 })));
        assert!(matches!(check(&config(512, 1, 19)), Err(ConfigError::Devices { devices: 20 })));
    }
}
