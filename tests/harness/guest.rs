//! A machine with the agent in it and nobody in between: what a supervisor says, said by a test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use protocol::{
    Adoption, Answer, CONTROL_PORT, Capabilities, ContainerSpec, Device, EtcFiles, ExecSpec,
    ExitStatus, FromAgent, Interface, Limits, MmioDevice, ProcessId, ProcessSpec, Question,
    RequestId, STREAM_PORT, StreamHello, StreamKind, ToAgent, User, VERSION, WallClock,
};
use vmm::config::{
    BootFiles, DiskBacking, DiskConfig, DiskExtent, DiskLimits, KernelFile, MachineConfig,
    NetBackend, NetConfig, Ring, Save, SnapshotFiles, Start, VsockConfig, WorkingSet,
};
use vmm::event::{Event, InterfaceOutcome, LiveSave};
use vmm::machine::Machine;
use vmm::order::{AfterSave, Order, OrderSender, PageFiles, SaveFiles};

use crate::Sandbox;

/// How long a guest may take over one answer in the lab.
const PATIENCE: Duration = Duration::from_secs(60);
/// Docker's default capabilities.
const CAPABILITIES: Capabilities = Capabilities { bits: 0xa804_25fb };

/// A guest whose agent has been greeted.
pub struct Guest {
    socket: PathBuf,
    control: UnixStream,
    orders: OrderSender,
    /// What became of them.
    outcomes: Receiver<Event>,
    /// The number of each interface's device.
    pub devices: Vec<usize>,
    /// Where the socket and the scratch disk lie.
    _folder: tempfile::TempDir,
}

/// A machine that was saved while its container stood still.
pub struct Saved {
    folder: tempfile::TempDir,
}

/// How a machine comes to its agent.
pub enum Beginning {
    /// It boots.
    Boot,
    /// It boots, and is saved to these files when its agent is ready.
    BootAndSave(SnapshotFiles),
    /// It goes on from these.
    Copy(SnapshotFiles),
}

impl Guest {
    /// Boots a machine with the busybox image.
    pub fn boot() -> Self {
        Self::begin(Beginning::Boot, Vec::new())
    }

    fn begin(beginning: Beginning, nets: Vec<NetConfig>) -> Self {
        Self::begin_with(beginning, nets, None)
    }

    /// Begins one, whose writable disk is a copy of this one.
    fn begin_with(beginning: Beginning, nets: Vec<NetConfig>, scratch: Option<&Path>) -> Self {
        // It makes the blank disk, if no test has done so before.
        Sandbox::with_images().hyperrun(["run", "--rm", "busybox", "true"]).code_is(0);
        let folder = tempfile::tempdir().expect("a temporary folder");
        if let Some(scratch) = scratch {
            let saved = File::open(scratch).expect("it was saved");
            let copy = File::create_new(folder.path().join("scratch")).expect("a new file");
            vmm::copy_sparse(&saved, &copy).expect("there is room");
        }
        let socket = folder.path().join("vsock");
        let listener = UnixListener::bind(&socket).expect("a short path");
        let (events, events_out) = std::io::pipe().expect("a pipe");
        let mut config = machine(listener, OwnedFd::from(events_out).into(), folder.path());
        let mut nets = nets.into_iter();
        config.net = nets.next();
        config.plugged = nets.collect();
        let devices = (0..=config.spare_interfaces).map(|interface| config.device_of(interface));
        let devices = devices.collect();
        match beginning {
            Beginning::Boot => {}
            Beginning::BootAndSave(files) => config.save = Some(Save { files, ring: Ring::First }),
            Beginning::Copy(files) => {
                config.start = Start::Restore { files, working_set: WorkingSet::default() };
            }
        }
        let (orders, receiver) = vmm::orders().expect("descriptors");
        config.orders = Some(receiver);
        // It ends with the test's process at the latest.
        thread::spawn(move || Machine::new(config).and_then(Machine::run));
        let mut events = File::from(OwnedFd::from(events));
        while Event::read_from(&mut events).expect("an event") != Some(Event::AgentReady) {}
        let (tell, outcomes) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(Some(event)) = Event::read_from(&mut events) {
                // A test that does not ask does not listen.
                let _ = tell.send(event);
            }
        });
        let mut control = connect(&socket, CONTROL_PORT);
        control.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
        protocol::write(&mut control, &ToAgent::Hello { version: VERSION }).expect("it listens");
        let mut guest = Self { socket, control, orders, outcomes, devices, _folder: folder };
        assert_eq!(guest.hear(), FromAgent::Hello { version: VERSION });
        guest
    }

    /// Boots a machine and starts a container with this script as its own process; its standard
    /// output.
    pub fn with_container(script: &str) -> (Self, UnixStream) {
        Self::boot().running(container(script))
    }

    /// The same in a machine with a network device over this tap, or over nothing.
    pub fn with_network(
        script: &str,
        tap: Option<File>,
        network: Option<Interface>,
    ) -> (Self, UnixStream) {
        let backend = tap.map_or(NetBackend::Nothing, NetBackend::Tap);
        let net = NetConfig { backend, ..NetConfig::default() };
        Self::with_devices(Beginning::Boot, vec![net], script, network)
    }

    /// The same in a machine with these network devices, its own and spare ones, however it begins.
    pub fn with_devices(
        beginning: Beginning,
        nets: Vec<NetConfig>,
        script: &str,
        network: Option<Interface>,
    ) -> (Self, UnixStream) {
        let networks = network.map(|interface| (MmioDevice { index: 0 }, interface));
        let container =
            ContainerSpec { networks: networks.into_iter().collect(), ..container(script) };
        Self::begin(beginning, nets).running(container)
    }

    fn running(mut self, container: ContainerSpec) -> (Self, UnixStream) {
        self.tell(&ToAgent::Run(Box::new(container)));
        let output = self.stream(ProcessId::OWN, StreamKind::Stdout);
        self.stream(ProcessId::OWN, StreamKind::Stderr);
        assert_eq!(self.hear(), FromAgent::Started { id: ProcessId::OWN });
        (self, output)
    }

    /// Has the machine do something about one of its interfaces; what became of it.
    pub fn order(&self, order: Order) -> InterfaceOutcome {
        self.ordered(order, |event| match event {
            Event::Interface { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    /// Has the machine do something about saving it; how far it is.
    fn live(&self, order: Order) -> LiveSave {
        self.ordered(order, |event| match event {
            Event::Live(step) => Some(step),
            _ => None,
        })
    }

    /// Has the machine do something; what it tells of it.
    fn ordered<T>(&self, order: Order, told: impl Fn(Event) -> Option<T>) -> T {
        self.orders.send(order).expect("the machine listens");
        loop {
            let event = self.outcomes.recv_timeout(PATIENCE).expect("the machine tells");
            if let Some(outcome) = told(event) {
                return outcome;
            }
        }
    }

    /// Saves the machine while its container stands still.
    #[track_caller]
    pub fn save(&mut self) -> Saved {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let create = |name: &str| {
            let options = File::options().read(true).write(true).create_new(true).clone();
            options.open(folder.path().join(name)).expect("a new file")
        };
        let machine = SnapshotFiles::new(create("state"), create("memory"));
        // The machine's process is the test's.
        let pages = PageFiles::of(std::process::id()).expect("it is there");
        let files = SaveFiles { machine, overlays: vec![create("scratch")], parent: None, pages };
        assert_eq!(self.live(Order::BeginSave(files)), LiveSave::Begun);
        assert_eq!(ask(self, Question::Suspend), Answer::Done);
        let saved = self.live(Order::Save(AfterSave::GoOn));
        assert!(matches!(saved, LiveSave::Saved { .. }), "{saved:?}");
        assert_eq!(ask(self, Question::Resume), Answer::Done);
        Saved { folder }
    }

    /// A copy of a machine, whose container takes another one's place; its standard output.
    #[track_caller]
    pub fn adopting(saved: &Saved, nets: Vec<NetConfig>, adoption: Adoption) -> (Self, UnixStream) {
        let open = |name: &str| File::open(saved.folder.path().join(name)).expect("it was saved");
        let files = SnapshotFiles::new(open("state"), open("memory"));
        let scratch = saved.folder.path().join("scratch");
        let mut guest = Self::begin_with(Beginning::Copy(files), nets, Some(&scratch));
        guest.tell(&ToAgent::Adopt(Box::new(adoption)));
        let output = guest.stream(ProcessId::OWN, StreamKind::Stdout);
        guest.stream(ProcessId::OWN, StreamKind::Stderr);
        assert_eq!(guest.hear(), FromAgent::Started { id: ProcessId::OWN });
        (guest, output)
    }

    /// Says one thing.
    pub fn tell(&mut self, message: &ToAgent) {
        protocol::write(&mut self.control, message).expect("the agent listens");
    }

    /// The next thing the agent says.
    #[track_caller]
    pub fn hear(&mut self) -> FromAgent {
        protocol::read(&mut self.control).expect("the agent speaks")
    }

    /// Connects a stream of a process.
    pub fn stream(&self, id: ProcessId, kind: StreamKind) -> UnixStream {
        let mut stream = connect(&self.socket, STREAM_PORT);
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
        protocol::write(&mut stream, &StreamHello { id, kind }).expect("it is accepted");
        stream
    }
}

/// Asks for one more process; its number.
pub fn exec(guest: &mut Guest, id: u32, process: ProcessSpec) -> ProcessId {
    let spec = Box::new(ExecSpec { process, detached: false });
    guest.tell(&ToAgent::Exec { id: ProcessId(id), spec });
    ProcessId(id)
}

/// Runs a script in the container to its end; what it wrote, and how it ended.
pub fn exec_to_end(guest: &mut Guest, id: u32, process: ProcessSpec) -> (String, ExitStatus) {
    let id = exec(guest, id, process);
    let output = guest.stream(id, StreamKind::Stdout);
    let errors = guest.stream(id, StreamKind::Stderr);
    assert_eq!(guest.hear(), FromAgent::Started { id });
    let text = read_all(output) + &read_all(errors);
    (text, end(guest, id))
}

/// How a process ends, which is the next thing to be heard.
#[track_caller]
pub fn end(guest: &mut Guest, id: ProcessId) -> ExitStatus {
    match guest.hear() {
        FromAgent::Exited { id: ended, status, out_of_memory: None } if ended == id => status,
        other => panic!("{other:?}"),
    }
}

/// Asks the agent, and waits for its answer.
pub fn ask(guest: &mut Guest, question: Question) -> Answer {
    let request = RequestId(77);
    guest.tell(&ToAgent::Ask { request, question });
    match guest.hear() {
        FromAgent::Answer { request: RequestId(77), answer } => answer,
        other => panic!("{other:?}"),
    }
}

/// All that comes until the end.
pub fn read_all(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text until the end");
    text
}

/// A process with this script, without streams for its input, run by root.
pub fn process(script: &str) -> ProcessSpec {
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
    ProcessSpec {
        args: words(&["sh", "-c", script]),
        env: words(&["PATH=/bin"]),
        working_dir: "/".to_owned(),
        user: User::default(),
        terminal: None,
        stdin: false,
        limits: Vec::new(),
        more_groups: Vec::new(),
        capabilities: CAPABILITIES,
        no_new_privileges: false,
        oom_score_adjustment: None,
        seccomp: Vec::new(),
    }
}

/// What a container is to become in a copy of its machine: one without a network.
pub fn adoption(hostname: &str) -> Adoption {
    let mut hook = process("");
    hook.env.push(format!("NAME={hostname}").into_bytes());
    Adoption {
        wall_clock: WallClock { seconds: 1_800_000_000, nanoseconds: 0 },
        entropy: [9; 32],
        hostname: hostname.to_owned(),
        etc: EtcFiles { hosts: "127.0.0.1 here\n".to_owned(), resolv_conf: String::new() },
        networks: Vec::new(),
        hook: ProcessSpec { args: Vec::new(), ..hook },
    }
}

fn container(script: &str) -> ContainerSpec {
    ContainerSpec {
        image_disk: Device { index: 0 },
        scratch_disk: Device { index: 1 },
        read_only: false,
        hostname: "finch".to_owned(),
        domain_name: String::new(),
        etc: EtcFiles::default(),
        shm_bytes: 1 << 20,
        tmpfs: Vec::new(),
        volumes: Vec::new(),
        sysctls: Vec::new(),
        privileged: false,
        init: false,
        wall_clock: WallClock { seconds: 1_700_000_000, nanoseconds: 0 },
        entropy: [7; 32],
        limits: Limits::default(),
        networks: Vec::new(),
        process: process(script),
    }
}

fn connect(socket: &Path, port: u32) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("the machine listens");
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"OK "), "{}", String::from_utf8_lossy(&answer));
    stream
}

fn machine(listener: UnixListener, events: File, folder: &Path) -> MachineConfig {
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let beside = |name: &str| open(&crate::sandbox::binary().with_file_name(name));
    let root = crate::sandbox::store();
    let store = images::Store::open(&root.join("images")).expect("a store");
    let disk = store.find("busybox").expect("it was loaded").disk().expect("it has a disk");
    let extents = disk.extents.iter().map(|extent| DiskExtent {
        file: open(&extent.path),
        offset: extent.offset,
        length: extent.length,
    });
    let blank = open(&root.join("scratch/blank-2.img"));
    let bytes = blank.metadata().expect("it is a file").len();
    let overlay = folder.join("scratch");
    let options = File::options().read(true).write(true).create(true).truncate(false).clone();
    let overlay = options.open(overlay);
    let scratch = DiskBacking::CopyOnWrite {
        base: Some(blank),
        base_bytes: bytes,
        overlay: overlay.expect("a new file"),
        usable_bytes: bytes,
        capacity_bytes: bytes,
    };
    let disk = |backing, id: &str| DiskConfig { backing, id: id.to_owned() };
    MachineConfig {
        memory_mib: 128,
        vcpus: 1,
        start: Start::Boot(BootFiles {
            kernel: KernelFile::Plain(beside("vmlinux")),
            initramfs: Some(beside("initramfs.cpio")),
            command_line: String::new(),
        }),
        save: None,
        disks: vec![
            disk(DiskBacking::read_only(extents.collect()), "image"),
            disk(scratch, "scratch"),
        ],
        disk_limits: DiskLimits::default(),
        vsock: Some(VsockConfig { cid: 3, listener }),
        net: None,
        spare_interfaces: 2,
        plugged: Vec::new(),
        orders: None,
        events,
        trace: false,
    }
}
