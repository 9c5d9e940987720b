//! A machine: made from its configuration, run to its end.

pub(crate) mod beginning;
pub(crate) mod live;

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvError, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_ioctls::VcpuFd;
use vm_memory::GuestMemoryMmap;

use crate::arch::x86_64::layout;
use crate::bus::Bus;
use crate::command_line;
use crate::config::{
    MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, MachineConfig, NetConfig, Ring, Save, SnapshotFiles,
    Start,
};
use crate::devices::serial::{self, Console};
use crate::error::{ConfigError, Error, chain};
use crate::event::{Event, InterfaceOutcome};
use crate::exit::Exit;
use crate::kick;
use crate::kvm::Vm;
use crate::layers::Pieces;
use crate::memory;
use crate::order::{AfterSave, Listener, Order, OrderReceiver};
use crate::residence;
use crate::slots::Slots;
use crate::snapshot::{self, MachineState, Pagemap, Saved, SnapshotError, Survey};
use crate::vcpu::RunningVcpu;
use crate::wake::{Ending, Wake};
use crate::wiring::{Parts, Wired, devices, wire};

use self::beginning::{
    Origin, begin, beside, load, remember, restore_devices, split_nets, with_pagemap,
};

/// How many messages may wait for the machine's own thread before vCPUs wait for it.
const WAKES: usize = 64;
/// No start of a program takes longer, once the agent is ready, on hardware.
const A_START: Duration = Duration::from_secs(1);

/// A machine that does not run: it owns everything it is made of, and has no threads but for one that
/// may still be touching its memory ahead.
pub struct Machine {
    memory_mib: u32,
    vcpus: Vec<VcpuFd>,
    bus: Arc<Bus>,
    console: Console,
    events: File,
    wakes: Receiver<Wake>,
    wake_sender: SyncSender<Wake>,
    vm: Vm,
    /// What is to be told when the vCPUs run.
    news: Vec<Event>,
    /// When and where to save the machine.
    save: Option<(Save, Pagemap)>,
    /// Whether the agent has rung.
    has_rung: bool,
    /// Where its network interfaces are.
    slots: Slots,
    /// What is to be plugged once the machine is not to be saved any more, and where.
    plugged: Vec<(u8, NetConfig)>,
    /// Where orders come from, until they are listened to.
    orders: Option<OrderReceiver>,
    /// Listens to them.
    listener: Option<Listener>,
    /// Touches memory ahead of the guest, where a file lies behind it.
    prefaulting: Option<JoinHandle<Pieces>>,
    /// The memory of one that boots.
    empty: Option<GuestMemoryMmap>,
    /// What it is made of that is saved with it.
    belongings: live::Belongings,
    /// What was begun to save it while it lives.
    begun: Option<Box<live::Begun>>,
    /// What it was woken for and has not looked at yet.
    postponed: VecDeque<Wake>,
    /// Whether its agent is ready and its program may still be starting.
    is_starting: bool,
}

/// Why vCPUs are stopped.
enum Pause {
    End(Ending),
    Save(Save, Pagemap),
    Live(Box<live::Begun>, AfterSave),
}

impl Machine {
    /// Makes a machine with its kernel loaded, or one that goes on where another was saved.
    ///
    /// # Errors
    /// When the configuration asks for too much, there is no fit KVM, a file cannot be used, or
    /// the host refuses.
    pub fn new(config: MachineConfig) -> Result<Self, Error> {
        check(&config)?;
        let mut belongings = live::Belongings::of(&config)?;
        let MachineConfig { memory_mib, vcpus, start, save, events, trace, .. } = config;
        let (net, nets) = split_nets(config.net, config.plugged, &start);
        let parts = Parts {
            disks: config.disks,
            disk_limits: config.disk_limits,
            vsock: config.vsock,
            net,
        };
        let memory_bytes = u64::from(memory_mib) << 20;
        let save = save.filter(|_| !trace).map(with_pagemap).transpose()?;
        let (memory, origin) = match start {
            Start::Boot(files) => begin(files, memory_mib, save.is_some(), &mut belongings)?,
            Start::Restore { files, working_set } => {
                remember(files, working_set, memory_mib, vcpus, &mut belongings)?
            }
        };
        let (wake_sender, wakes) = mpsc::sync_channel(WAKES);
        let console = Console::new(trace.then(|| wake_sender.clone()));
        let devices = devices(parts)?;
        let spare = usize::from(config.spare_interfaces);
        let device_count = devices.len() + spare;
        let make = || wire(&memory, &console, devices, spare);
        let empty = matches!(origin, Origin::Boot(..)).then(|| memory.clone());
        let (uart, wired, vcpus, news, plugged, prefaulting) = match origin {
            Origin::Boot(boot, prefaulting) => {
                let line = command_line::build(trace, device_count, &boot.command_line);
                let load = || load(&memory, memory_bytes, vcpus, boot, &line);
                // Making a machine is mostly waiting for the host's kernel.
                let (made, entry) = beside(make, load)?;
                let wired = made?;
                let vcpus = wired.vm.create_vcpus(vcpus, entry?)?;
                let uart = serial::uart(&console, Arc::clone(&wired.uart_irq));
                let plugged = (1..).zip(nets).collect();
                (uart, wired, vcpus, vec![Event::Running], plugged, prefaulting)
            }
            Origin::Saved(state, prefaulting) => {
                let mut wired = make()?;
                let vcpus = wired.vm.restore(&state)?;
                let Wired { vm, transports, slots, .. } = &mut wired;
                let plugged = slots.resemble(&state.devices, vm, transports, nets)?;
                restore_devices(&mut wired.transports, &state.devices).map_err(Error::Restore)?;
                let uart = serial::restore(&state.uart, &console, Arc::clone(&wired.uart_irq));
                let news = vec![Event::Running, Event::AgentReady];
                (uart, wired, vcpus, news, plugged, Some(prefaulting))
            }
        };
        let Wired { vm, transports, slots, .. } = wired;
        let bus = Arc::new(Bus::new(uart, transports, wake_sender.clone()));
        if news.contains(&Event::AgentReady) {
            bus.agent_has_rung();
        }
        Ok(Self {
            memory_mib,
            vcpus,
            bus,
            console,
            events,
            wakes,
            wake_sender,
            vm,
            news,
            save,
            has_rung: false,
            slots,
            plugged,
            orders: config.orders,
            listener: None,
            prefaulting,
            empty,
            belongings,
            begun: None,
            postponed: VecDeque::new(),
            is_starting: false,
        })
    }

    /// Runs the machine to its end and reports what happens on the way.
    ///
    /// # Errors
    /// When the host refuses a thread, or nobody reads the events.
    pub fn run(mut self) -> Result<Exit, Error> {
        kick::install().map_err(Error::host("install the signal handler for vCPUs"))?;
        let bytes = u64::from(self.memory_mib) << 20;
        let outcome = match self.empty.take() {
            Some(memory) => beside(|| self.live(), || memory::touch_tables(&memory, bytes))?.0,
            None => self.live(),
        };
        self.bus.stop();
        if let Some(listener) = self.listener.take() {
            // It may be waiting for room, and nobody makes any.
            self.wakes = mpsc::sync_channel(0).1;
            listener.stop();
        }
        if let Some(thread) = self.prefaulting.take() {
            // It touches memory and does not panic.
            let _ = thread.join();
        }
        // Told before the virtual machine is taken down, which takes the host's kernel a while.
        let Self { console, mut events, vm: _vm, .. } = self;
        let exit = match outcome? {
            Ending::Exit(exit) => exit,
            Ending::Panic => Exit::Panic { console_tail: console.last_lines() },
        };
        report_end(&mut events, &console, exit)
    }

    /// Runs until the guest ends, with a pause in which the machine is saved.
    fn live(&mut self) -> Result<Ending, Error> {
        self.bus.resume();
        loop {
            let running = self.start()?;
            let pause = self.serve();
            if !matches!(pause, Ok(Pause::Save(..) | Pause::Live(..))) {
                // A vCPU may be waiting for room to trace a line; without a reader it does not.
                self.wakes = mpsc::sync_channel(0).1;
            }
            self.vcpus = stop(running);
            let pause = pause?;
            if let Pause::End(ending) = pause {
                return Ok(ending);
            }
            // The end may have come before the pause.
            if let Some(ending) = self.postpone() {
                return Ok(ending);
            }
            self.bus.pause();
            let (Save { files, ring }, pagemap) = match pause {
                Pause::Save(save, pagemap) => (save, pagemap),
                Pause::Live(begun, after) => {
                    if let Some(ending) = self.finish_live(*begun, after)? {
                        return Ok(ending);
                    }
                    self.bus.resume();
                    continue;
                }
                Pause::End(ending) => return Ok(ending),
            };
            let save = |memory: &_, file: &_| {
                let survey = Survey::of(memory, &pagemap, None).map_err(SnapshotError::Read)?;
                snapshot::save_memory(memory, survey, file)
            };
            let saved = match self.save(files, Vec::new(), save) {
                Ok(_) => Event::Saved,
                Err(error) => Event::NotSaved(chain(&error)),
            };
            if ring == Ring::Second {
                self.tell(saved)?;
                return Ok(Ending::Exit(Exit::PowerOff));
            }
            self.bus.resume();
            self.news.extend([saved, Event::AgentReady]);
        }
    }

    /// Starts all vCPUs; stops those already running when one cannot be.
    fn start(&mut self) -> Result<Vec<RunningVcpu>, Error> {
        let mut running = Vec::with_capacity(self.vcpus.len());
        for (index, vcpu) in std::mem::take(&mut self.vcpus).into_iter().enumerate() {
            let (bus, wakes) = (Arc::clone(&self.bus), self.wake_sender.clone());
            let ahead = self.prefaulting.take_if(|_| self.vm.maps_ahead());
            match RunningVcpu::start(index, vcpu, ahead, bus, wakes) {
                Ok(vcpu) => running.push(vcpu),
                Err(error) => {
                    stop(running);
                    return Err(Error::host("start a vCPU's thread")(error));
                }
            }
        }
        Ok(running)
    }

    /// Reports what happens until the first vCPU comes to an end, or it is time to save.
    fn serve(&mut self) -> Result<Pause, Error> {
        if self.save.is_none() {
            self.plug_first()?;
        }
        for event in std::mem::take(&mut self.news) {
            self.tell(event)?;
        }
        self.listen()?;
        loop {
            match self.next_wake() {
                Ok(Wake::AgentReady) => {
                    let ring = if self.has_rung { Ring::Second } else { Ring::First };
                    self.has_rung = true;
                    match self.save.take_if(|(save, _)| save.ring == ring) {
                        // Nobody is told yet: a machine is saved without a connection.
                        Some((save, pagemap)) => return Ok(Pause::Save(save, pagemap)),
                        None => self.tell(Event::AgentReady)?,
                    }
                }
                Ok(Wake::Order(Order::Save(after))) if self.begun.is_some() => {
                    let begun = self.begun.take().expect("it was just seen");
                    return Ok(Pause::Live(begun, after));
                }
                Ok(Wake::Order(order)) => {
                    if let Some(event) = self.obey(order) {
                        event.write_to(&mut self.events)?;
                    }
                }
                Ok(Wake::Begun(outcome)) => self.has_begun(outcome).write_to(&mut self.events)?,
                Ok(Wake::Console(line)) => Event::Console(line).write_to(&mut self.events)?,
                Ok(Wake::Ended(ending)) => return Ok(Pause::End(ending)),
                Err(RecvError) => {
                    let message = "all vCPUs are gone".to_owned();
                    return Ok(Pause::End(Ending::Exit(Exit::InternalError { message })));
                }
            }
        }
    }

    /// Reports an event.
    fn tell(&mut self, event: Event) -> Result<(), Error> {
        self.is_starting |= event == Event::AgentReady;
        Ok(event.write_to(&mut self.events)?)
    }

    /// Waits for the next thing to do. Once, when there was none for a while after the agent got ready,
    /// lets go of the code that made the machine and started its program.
    fn next_wake(&mut self) -> Result<Wake, RecvError> {
        if let Some(wake) = self.postponed.pop_front() {
            return Ok(wake);
        }
        if self.is_starting {
            match self.wakes.recv_timeout(A_START) {
                Ok(wake) => return Ok(wake),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
                Err(RecvTimeoutError::Timeout) => {
                    self.is_starting = false;
                    residence::give_back_text();
                }
            }
        }
        self.wakes.recv()
    }

    /// Fills the first spare places, of which the guest's agent hears later.
    fn plug_first(&mut self) -> Result<(), Error> {
        for (interface, net) in std::mem::take(&mut self.plugged) {
            self.slots.plug(&mut self.vm, &self.bus, interface, net).map_err(Error::Plug)?;
        }
        Ok(())
    }

    /// Listens to the owner from now on, unless the machine is still to be saved: one that is has no
    /// threads.
    fn listen(&mut self) -> Result<(), Error> {
        if self.save.is_none()
            && let Some(orders) = self.orders.take()
        {
            let listener = Listener::start(orders, self.wake_sender.clone());
            self.listener = Some(listener.map_err(Error::host("start a thread"))?);
        }
        Ok(())
    }

    /// Does what was ordered, and says what became of it.
    fn obey(&mut self, order: Order) -> Option<Event> {
        let (interface, done) = match order {
            Order::Plug { interface, net } => {
                let plugged = self.slots.plug(&mut self.vm, &self.bus, interface, net);
                (interface, plugged.map(|device| InterfaceOutcome::Plugged { device }))
            }
            Order::Unplug { interface } => {
                let unplugged = self.slots.unplug(&self.bus, interface);
                (interface, unplugged.map(|()| InterfaceOutcome::Unplugged))
            }
            Order::BeginSave(files) => return self.begin_live(files),
            Order::Save(_) => return Some(live::nothing_begun()),
            Order::AbandonSave => {
                self.begun = None;
                return None;
            }
        };
        let refused = |error| InterfaceOutcome::Refused { reason: chain(&error) };
        Some(Event::Interface { interface, outcome: done.unwrap_or_else(refused) })
    }

    /// Writes the machine, which is paused, to its files, its memory by `save`; the bytes of that. `disks` is
    /// what counts of the files of its writable disks.
    fn save(
        &mut self,
        files: SnapshotFiles,
        disks: Vec<Vec<Pieces>>,
        save: impl FnOnce(&GuestMemoryMmap, &File) -> Result<Saved, SnapshotError>,
    ) -> Result<u64, SnapshotError> {
        let SnapshotFiles { mut state, memory, .. } = files;
        let (vm, vcpus) = self.vm.save(&mut self.vcpus)?;
        let failed = SnapshotError::Unfit { what: "a device has failed" };
        let (uart, devices) = self.bus.save().ok_or(failed)?;
        let Saved { pieces, written } = save(self.vm.memory(), &memory)?;
        let (memory_mib, memory) = (self.memory_mib, pieces);
        let machine = MachineState { memory_mib, memory, disks, vm, vcpus, uart, devices };
        snapshot::write(&mut state, &machine)?;
        Ok(written)
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
    let devices = config.disks.len() + usize::from(config.vsock.is_some());
    let devices = devices + usize::from(config.net.is_some()) + 2;
    let devices = devices + usize::from(config.spare_interfaces);
    if devices > layout::MAX_DEVICES {
        return Err(ConfigError::Devices { devices });
    }
    if config.plugged.len() > usize::from(config.spare_interfaces) {
        return Err(ConfigError::Interfaces { interfaces: config.plugged.len() });
    }
    Ok(())
}

/// Gets all vCPUs out of the guest; one whose thread panicked is lost.
fn stop(running: Vec<RunningVcpu>) -> Vec<VcpuFd> {
    for vcpu in &running {
        vcpu.kick();
    }
    running.into_iter().filter_map(RunningVcpu::join).collect()
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
    use crate::config::{BootFiles, DiskBacking, DiskConfig, DiskLimits, KernelFile};

    fn config(memory_mib: u32, vcpus: u8, disks: usize) -> MachineConfig {
        let file = || File::open("/dev/null").expect("it is always there");
        let disk = || DiskConfig { backing: DiskBacking::read_only(Vec::new()), id: String::new() };
        MachineConfig {
            memory_mib,
            vcpus,
            start: Start::Boot(BootFiles {
                kernel: KernelFile::Plain(file()),
                initramfs: None,
                command_line: String::new(),
            }),
            save: None,
            disks: (0..disks).map(|_| disk()).collect(),
            disk_limits: DiskLimits::default(),
            vsock: None,
            net: None,
            spare_interfaces: 0,
            plugged: Vec::new(),
            orders: None,
            events: file(),
            trace: false,
        }
    }

    #[test]
    fn impossible_machines_are_refused() {
        assert!(check(&config(512, 1, 17)).is_ok());
        assert!(matches!(check(&config(1, 1, 0)), Err(ConfigError::Memory { mib: 1 })));
        assert!(matches!(check(&config(2 << 20, 1, 0)), Err(ConfigError::Memory { .. })));
        assert!(matches!(check(&config(512, 0, 0)), Err(ConfigError::Vcpus { vcpus: 0 })));
        assert!(matches!(check(&config(512, 33, 0)), Err(ConfigError::Vcpus { vcpus: 33 })));
        assert!(matches!(check(&config(512, 1, 18)), Err(ConfigError::Devices { devices: 20 })));
        let spare = |spare_interfaces| MachineConfig { spare_interfaces, ..config(512, 1, 10) };
        assert!(check(&spare(7)).is_ok());
        assert_eq!([0, 1, 7].map(|interface| spare(7).device_of(interface)), [10, 12, 18]);
        assert!(matches!(check(&spare(8)), Err(ConfigError::Devices { devices: 20 })));
    }
}
