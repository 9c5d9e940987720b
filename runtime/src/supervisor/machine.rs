//! The process a machine runs in: made from open files, listened to, and killed at the end.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use protocol::{Limits, MmioDevice};
use vmm::config::{
    DiskBacking, DiskConfig, DiskExtent, MachineConfig, NetConfig, Save, Start, VsockConfig,
};
use vmm::error::chain;
use vmm::event::Event;
use vmm::machine::Machine;
use vmm::order::{Order, OrderReceiver, OrderSender};
use vmm::process::make_room_for_descriptors;

use super::error::Error;
use crate::containers::MACHINE_SOCKET;
use crate::host_cgroup::HostCgroup;
use crate::options::{CpuSet, HostLimits};
use crate::plan::VmConfig;
use crate::process::Process;
use crate::scratch::Scratch;

/// The guest's address on its vsock; the first that is not reserved. Every machine has a vsock of
/// its own, so all can have the same.
const GUEST_CID: u64 = 3;
/// The size of each disk as every guest sees it: the most that EROFS can address, and an overlay.
const SLOT_BYTES: u64 = 16 << 40;
/// How many networks a machine can be on beside its first, which have devices only then.
pub(crate) const SPARE_INTERFACES: u8 = 7;
/// How long a machine may take to end that says nothing more.
const FAREWELL: Duration = Duration::from_secs(2);
/// The most that is read of a dying machine's words, in bytes.
const MAX_WORDS_BYTES: u64 = 8 << 10;

/// What a machine is made of, open already.
pub(crate) struct MachineParts {
    /// Its shape.
    pub(crate) shape: VmConfig,
    /// What it may use of the host.
    pub(crate) host: HostLimits,
    /// The container it is for and its limits, if it is for one.
    pub(crate) container: Option<(String, Limits)>,
    /// Where it begins.
    pub(crate) start: Start,
    /// When and where it is saved.
    pub(crate) save: Option<Save>,
    /// The image's disk.
    pub(crate) image: Vec<DiskExtent>,
    /// The writable disk.
    pub(crate) scratch: Scratch,
    /// What its network devices lead to; the first is there whether it leads anywhere or not.
    pub(crate) nets: Vec<NetConfig>,
    /// Whether the guest's kernel speaks.
    pub(crate) trace: bool,
}

/// A running machine. Dropping it kills it.
pub(super) struct MachineProcess {
    process: Process,
    events: File,
    words: File,
    orders: OrderSender,
    /// The places of its network devices.
    devices: Vec<MmioDevice>,
    traced: bool,
    /// Dropped behind the process that is in it.
    cgroup: Option<HostCgroup>,
}

impl MachineProcess {
    /// Starts a machine that is reached through `listener`. It dies with this process, and calls
    /// `let_go` first, which closes what is not its business.
    pub(super) fn start(
        parts: MachineParts,
        listener: UnixListener,
        let_go: impl FnOnce(),
    ) -> Result<Self, Error> {
        let failed = |action| move |source| Error::System { action, source };
        let (events, events_out) = std::io::pipe().map_err(failed("make a pipe"))?;
        let (words, words_out) = std::io::pipe().map_err(failed("make a pipe"))?;
        let (traced, cpus) = (parts.trace, parts.host.cpu_set.clone());
        let container = parts.container.clone();
        let events_out = OwnedFd::from(events_out).into();
        let (sender, orders) = vmm::orders().map_err(failed("make a pair of sockets"))?;
        let config = machine_config(parts, Ends { listener, events: events_out, orders });
        let devices = devices(&config);
        let ours = Cell::new(Some((events, words, sender)));
        let process = Process::fork_bound(|| {
            drop(ours.take());
            let_go();
            run(config, cpus, words_out)
        })
        .map_err(failed("start the machine's process"))?;
        let (events, words, orders) = ours.take().expect("only the child has taken them");
        let (events, words) = (OwnedFd::from(events).into(), OwnedFd::from(words).into());
        let cgroup =
            container.and_then(|(id, limits)| HostCgroup::hold(&id, &limits, process.pid()));
        Ok(Self { process, events, words, orders, devices, traced, cgroup })
    }

    /// The next thing the machine says; its error when it has ended without a last event.
    pub(super) fn next_event(&mut self) -> Result<Event, Error> {
        match Event::read_from(&mut self.events) {
            Ok(Some(event)) => Ok(event),
            Ok(None) | Err(_) => Err(self.last_words()),
        }
    }

    /// Kills it. What it had been asked to write is written all the same, and nothing else from then on.
    pub(super) fn kill(&self) {
        self.process.kill();
    }

    /// Kills it, for the host to take down beside all else: that takes a while, with a network most of all.
    /// Only for a process that is about to end.
    pub(super) fn leave(self) {
        let Self { process, cgroup, .. } = self;
        match cgroup {
            // It can be removed once nobody is in it.
            Some(cgroup) => drop((process, cgroup)),
            None => process.abandon(),
        }
    }

    /// Where its events come from, to wait for.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// The number of its process.
    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Changes what the whole machine may use, where the host lets us.
    pub(super) fn limit(&mut self, id: &str, limits: &Limits) {
        match &self.cgroup {
            // What the kernel refuses holds in the guest.
            Some(cgroup) => {
                let _taken = cgroup.limit(limits);
            }
            None => self.cgroup = HostCgroup::hold(id, limits, self.process.pid()),
        }
    }

    /// The places of its network devices: the first is there, the others are once something is plugged in.
    pub(super) fn devices(&self) -> &[MmioDevice] {
        &self.devices
    }

    /// Has it do something about its interfaces; what becomes of it is an event.
    pub(super) fn order(&self, order: Order) -> Result<(), Error> {
        let failed = |source| Error::System { action: "tell the machine", source };
        self.orders.send(order).map_err(failed)
    }

    /// Whether all it prints is wanted.
    pub(super) fn traced(&self) -> bool {
        self.traced
    }

    /// The error a machine left when it could not go on.
    fn last_words(&mut self) -> Error {
        self.process.wait_at_most(FAREWELL);
        let mut text = Vec::new();
        let read = (&mut self.words).take(MAX_WORDS_BYTES).read_to_end(&mut text);
        if read.is_err() || text.is_empty() {
            return Error::MachineDied;
        }
        Error::Machine { message: String::from_utf8_lossy(&text).into_owned() }
    }
}

/// Makes a machine's vsock socket in `folder`, whose own path may be too long for a socket.
pub(super) fn bind(folder: &File) -> Result<UnixListener, Error> {
    // One that a killed supervisor has left would be in the way.
    let _ = rustix::fs::unlinkat(folder, MACHINE_SOCKET, rustix::fs::AtFlags::empty());
    let path = format!("/proc/self/fd/{}/{MACHINE_SOCKET}", folder.as_raw_fd());
    UnixListener::bind(path)
        .map_err(|source| Error::System { action: "make the machine's socket", source })
}

/// The machine's ends of what it has in common with its supervisor.
struct Ends {
    listener: UnixListener,
    events: File,
    orders: OrderReceiver,
}

/// The places of a machine's network devices.
fn devices(config: &MachineConfig) -> Vec<MmioDevice> {
    let indexes = (0..=SPARE_INTERFACES).map(|interface| u8::try_from(config.device_of(interface)));
    indexes.map(|index| MmioDevice { index: index.expect("a machine has few devices") }).collect()
}

fn machine_config(parts: MachineParts, ends: Ends) -> MachineConfig {
    let Ends { listener, events, orders } = ends;
    let mut nets = parts.nets.into_iter();
    let net = nets.next().unwrap_or_default();
    let bytes = parts.scratch.blank.size.bytes();
    // All disks have the same slots: a template knows none of them.
    let scratch = DiskBacking::CopyOnWrite {
        base: Some(parts.scratch.blank.file),
        base_bytes: bytes,
        overlay: parts.scratch.overlay,
        usable_bytes: bytes,
        capacity_bytes: SLOT_BYTES,
    };
    let image = DiskBacking::ReadOnly { extents: parts.image, capacity_bytes: SLOT_BYTES };
    MachineConfig {
        memory_mib: parts.shape.memory_mib,
        vcpus: parts.shape.vcpus,
        start: parts.start,
        save: parts.save,
        disks: vec![
            DiskConfig { backing: image, id: "image".to_owned() },
            DiskConfig { backing: scratch, id: "scratch".to_owned() },
        ],
        disk_limits: parts.host.devices.limits(),
        vsock: Some(VsockConfig { cid: GUEST_CID, listener }),
        // All machines have the same devices, since a template is one of any container.
        net: Some(net),
        spare_interfaces: SPARE_INTERFACES,
        plugged: nets.collect(),
        orders: Some(orders),
        events,
        trace: parts.trace,
    }
}

/// What the machine's process does: all of its life.
fn run(config: MachineConfig, cpus: Option<CpuSet>, mut words: std::io::PipeWriter) -> u8 {
    make_room_for_descriptors();
    let bound = cpus.map_or(Ok(()), |cpus| keep_to(&cpus));
    let ended = bound
        .and_then(|()| Machine::new(config).and_then(Machine::run).map_err(|error| chain(&error)));
    match ended {
        Ok(_) => 0,
        Err(error) => {
            // The supervisor reads this, or is dead and so is this process.
            let _ = words.write_all(error.as_bytes());
            1
        }
    }
}

/// Runs on these CPUs only, with all threads to come; the reason where that cannot be.
fn keep_to(cpus: &CpuSet) -> Result<(), String> {
    let mut set = rustix::thread::CpuSet::new();
    cpus.cpus().for_each(|cpu| set.set(cpu));
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot run on the CPUs {cpus}: {error}"))
}
