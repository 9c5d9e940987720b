//! A machine that is saved while it works hard, and its copies: no byte of a disk or a socket is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyperrun_tests::initramfs_of;
use hyperrun_tests::load::{
    Bytes, DISK_BYTES, GIVE_PORT, GIVEN, GOOD_DISK, OFF, ORDER_PORT, REPORT, RING, TAKE_PORT, TAKEN,
};
use vmm::config::DiskLimits;
use vmm::{
    AfterSave, BootFiles, DiskBacking, DiskConfig, Event, Exit, KernelFile, LiveSave, Machine,
    MachineConfig, Order, OrderSender, PageFiles, Ring, Save, SaveFiles, SnapshotFiles, Start,
    VsockConfig, orders,
};

/// How long a guest may take over anything in the lab.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many bytes each stream carries before and after the machine is saved.
const SOME: u64 = 1 << 20;
/// Less than a state has: who writes one into a pipe of this size waits for whoever reads it.
const SMALL_PIPE: usize = 4096;

/// A machine in this process, whose first program works hard.
struct Worker {
    folder: tempfile::TempDir,
    events: Receiver<Event>,
    orders: OrderSender,
    machine: JoinHandle<Result<Exit, vmm::Error>>,
}

impl Worker {
    /// Starts one, whose disk lies in `folder`.
    fn start(start: Start, save: Option<SnapshotFiles>, folder: tempfile::TempDir) -> Self {
        let listener = UnixListener::bind(folder.path().join("vsock")).unwrap();
        let disk = folder.path().join("disk");
        let overlay =
            File::options().read(true).write(true).create(true).truncate(false).open(disk);
        let backing = DiskBacking::CopyOnWrite {
            base: None,
            base_bytes: 0,
            overlay: overlay.unwrap(),
            usable_bytes: DISK_BYTES,
            capacity_bytes: DISK_BYTES,
        };
        let (orders, ordered) = orders().unwrap();
        let (mut events_in, events_out) = std::io::pipe().unwrap();
        let config = MachineConfig {
            memory_mib: 128,
            vcpus: 1,
            start,
            save: save.map(|files| Save { files, ring: Ring::First }),
            disks: vec![DiskConfig { backing, id: "work".to_owned() }],
            disk_limits: DiskLimits::default(),
            vsock: Some(VsockConfig { cid: 3, listener }),
            net: None,
            spare_interfaces: 0,
            plugged: Vec::new(),
            orders: Some(ordered),
            events: OwnedFd::from(events_out).into(),
            trace: false,
        };
        let machine = thread::spawn(move || Machine::new(config).and_then(Machine::run));
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(Some(event)) = Event::read_from(&mut events_in) {
                let _ = sender.send(event);
            }
        });
        Self { folder, events, orders, machine }
    }

    /// Waits for an event, whatever comes before.
    #[track_caller]
    fn awaits(&self, wanted: &Event) {
        while self.events.recv_timeout(PATIENCE).expect("the machine speaks") != *wanted {}
    }

    /// A connection to a port of the guest; none if nobody listens there.
    fn try_connect(&self, port: u32) -> Option<UnixStream> {
        let mut stream = UnixStream::connect(self.folder.path().join("vsock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while answer.last() != Some(&b'\n') {
            if stream.read(&mut byte).unwrap() == 0 {
                return None;
            }
            answer.push(byte[0]);
        }
        Some(stream)
    }

    #[track_caller]
    fn connect(&self, port: u32) -> UnixStream {
        self.try_connect(port).expect("the guest listens")
    }

    /// Connects once the guest listens: it tells nobody before it is saved.
    fn await_listening(&self) {
        while self.try_connect(TAKE_PORT).is_none() {
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn order(&self, order: u8) -> String {
        ordered(self.connect(ORDER_PORT), order)
    }

    /// What becomes of an order about saving it.
    fn hears_of(&self, order: Order) -> LiveSave {
        self.orders.send(order).unwrap();
        loop {
            if let Event::Live(step) = self.events.recv_timeout(PATIENCE).expect("it speaks") {
                return step;
            }
        }
    }

    /// Saves it while it lives, in a folder in which a copy can begin; the bytes that were written.
    #[track_caller]
    fn is_saved(&self, after: AfterSave) -> (tempfile::TempDir, u64) {
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| {
            let options = File::options().read(true).write(true).create_new(true).clone();
            options.open(folder.path().join(name)).unwrap()
        };
        let machine = SnapshotFiles::new(create("state"), create("memory"));
        // The machine's process is this one.
        let pages = PageFiles::of(std::process::id()).unwrap();
        let files = SaveFiles { machine, overlays: vec![create("disk")], parent: None, pages };
        assert_eq!(self.hears_of(Order::BeginSave(files)), LiveSave::Begun);
        match self.hears_of(Order::Save(after)) {
            LiveSave::Saved { written } => (folder, written),
            other => panic!("{other:?}"),
        }
    }

    /// Ends it when all is as it should be.
    #[track_caller]
    fn ends_well(self) {
        assert_eq!(self.order(REPORT), GOOD_DISK);
        let mut switch = self.connect(ORDER_PORT);
        switch.write_all(&[OFF]).unwrap();
        assert_eq!(self.machine.join().unwrap().unwrap(), Exit::PowerOff);
    }
}

fn ordered(mut guest: UnixStream, order: u8) -> String {
    guest.write_all(&[order]).unwrap();
    let mut line = String::new();
    while !line.ends_with('\n') {
        let mut byte = [0];
        guest.read_exact(&mut byte).unwrap();
        line.push(char::from(byte[0]));
    }
    line
}

/// What comes from the guest, compared as it comes.
struct Given {
    stream: UnixStream,
    bytes: Bytes,
}

impl Given {
    fn of(worker: &Worker) -> Self {
        Self { stream: worker.connect(GIVE_PORT), bytes: Bytes::of(GIVEN) }
    }

    /// Reads so many more.
    #[track_caller]
    fn flows(&mut self, count: u64) {
        let (end, mut buffer) = (self.bytes.position() + count, vec![0; 64 << 10]);
        while self.bytes.position() < end {
            let count = self.stream.read(&mut buffer).expect("the guest sends");
            assert_ne!(count, 0, "the guest has stopped to send");
            assert!(self.bytes.are(&buffer[..count]), "before {}", self.bytes.position());
        }
    }
}

/// What goes to the guest, which counts what is right.
struct Taken {
    stream: UnixStream,
    bytes: Bytes,
}

impl Taken {
    fn of(worker: &Worker) -> Self {
        Self { stream: worker.connect(TAKE_PORT), bytes: Bytes::of(TAKEN) }
    }

    fn flows(&mut self, count: u64) {
        let (end, mut buffer) = (self.bytes.position() + count, vec![0; 16 << 10]);
        while self.bytes.position() < end {
            self.bytes.fill(&mut buffer);
            self.stream.write_all(&buffer).expect("the guest takes");
        }
    }

    #[track_caller]
    fn was_right(mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
        let mut right = [0; 8];
        self.stream.read_exact(&mut right).expect("the guest counts");
        assert_eq!(u64::from_le_bytes(right), self.bytes.position());
    }
}

/// Lets `flow` go on in a thread until the guard is asked for what it was about.
fn beside<T: Send + 'static>(
    mut what: T,
    flow: impl Fn(&mut T) + Send + 'static,
) -> impl FnOnce() -> T {
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            flow(&mut what);
        }
        what
    });
    move || {
        drop(stop);
        thread.join().expect("it flows")
    }
}

fn boot() -> Start {
    let program = std::env::var("HYPERRUN_TEST_LOAD").expect("scripts/test sets it");
    let initramfs = initramfs_of(&fs::read(program).unwrap());
    let binary = std::env::var("HYPERRUN_BIN").expect("scripts/test sets it");
    let kernel = PathBuf::from(binary).with_file_name("vmlinux");
    Start::Boot(BootFiles {
        kernel: KernelFile::Plain(File::open(kernel).unwrap()),
        initramfs: Some(initramfs.into_file()),
        command_line: String::new(),
    })
}

/// Where a state is read from that stands still with its machine until then.
fn state_pipe() -> (std::io::PipeReader, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, SMALL_PIPE).unwrap();
    (reader, OwnedFd::from(writer).into())
}

/// A copy of what was saved in a folder.
fn copy_of(folder: tempfile::TempDir) -> Worker {
    let open = |name: &str| File::open(folder.path().join(name)).unwrap();
    let files = SnapshotFiles::new(open("state"), open("memory"));
    let start = Start::Restore { files, working_set: vmm::config::WorkingSet::default() };
    let copy = Worker::start(start, None, folder);
    copy.awaits(&Event::AgentReady);
    copy
}

#[test]
fn a_machine_saved_by_order_goes_on_and_its_copies_keep_every_byte() {
    let original = Worker::start(boot(), None, tempfile::tempdir().unwrap());
    original.await_listening();
    let nothing = original.hears_of(Order::Save(AfterSave::GoOn));
    assert!(matches!(nothing, LiveSave::Failed(_)), "{nothing:?}");
    let (mut given, mut taken) = (Given::of(&original), Taken::of(&original));
    given.flows(SOME);
    taken.flows(SOME);
    let given = beside(given, |given| given.flows(64 << 10));
    let taken = beside(taken, |taken| taken.flows(64 << 10));
    let (folder, written) = original.is_saved(AfterSave::GoOn);
    let (mut given, mut taken) = (given(), taken());
    given.flows(SOME);
    taken.flows(SOME);
    taken.was_right();
    drop(given);
    original.ends_well();

    // The copy's guest still believes in its connections, until it is told that they are gone.
    let copy = copy_of(folder);
    let (mut given, mut taken) = (Given::of(&copy), Taken::of(&copy));
    given.flows(SOME);
    taken.flows(SOME);
    let (folder, again) = copy.is_saved(AfterSave::End);
    // All that lies behind its memory, and what it has of its own.
    assert!(again > 1 << 20 && again < 2 * written, "{written} bytes, then {again}");
    assert_eq!(copy.machine.join().unwrap().unwrap(), Exit::PowerOff);

    let last = copy_of(folder);
    let (mut given, mut taken) = (Given::of(&last), Taken::of(&last));
    given.flows(SOME);
    taken.flows(SOME);
    taken.was_right();
    drop(given);
    last.ends_well();
}

#[test]
fn a_machine_that_cannot_be_saved_for_want_of_room_goes_on() {
    let original = Worker::start(boot(), None, tempfile::tempdir().unwrap());
    original.await_listening();
    let full = || File::options().read(true).write(true).open("/dev/full").unwrap();
    let begin = |memory: File| {
        let pages = PageFiles::of(std::process::id()).unwrap();
        let machine = SnapshotFiles::new(full(), memory);
        let files = SaveFiles { machine, overlays: vec![full()], parent: None, pages };
        original.hears_of(Order::BeginSave(files))
    };
    let fails = |told: LiveSave| {
        let LiveSave::Failed(reason) = told else { panic!("{told:?}") };
        assert!(reason.contains("No space left on device"), "{reason}");
    };
    // While it runs, and when it stands still.
    fails(begin(full()));
    assert_eq!(begin(tempfile::tempfile().unwrap()), LiveSave::Begun);
    fails(original.hears_of(Order::Save(AfterSave::End)));
    original.ends_well();
}

#[test]
fn a_machine_saved_under_load_and_its_copies_keep_every_byte() {
    let memory = tempfile::tempfile().unwrap();
    let (mut state_in, state) = state_pipe();
    let save = SnapshotFiles::new(state, memory.try_clone().unwrap());
    let original = Worker::start(boot(), Some(save), tempfile::tempdir().unwrap());
    original.await_listening();

    // One is held up half way, two flow.
    let mut held = Given::of(&original);
    held.flows(64 << 10);
    let (mut given, mut taken) = (Given::of(&original), Taken::of(&original));
    given.flows(SOME);
    taken.flows(SOME);
    let given = beside(given, |given| given.flows(64 << 10));
    let taken = beside(taken, |taken| taken.flows(64 << 10));
    let bell = original.connect(ORDER_PORT);
    let rung = thread::spawn(move || ordered(bell, RING));

    // The machine stands still between the first byte of its state and the last.
    let mut state = vec![0];
    state_in.read_exact(&mut state).unwrap();
    let disk = fs::read(original.folder.path().join("disk")).unwrap();
    state_in.read_to_end(&mut state).unwrap();
    original.awaits(&Event::Saved);
    assert_eq!(rung.join().unwrap(), "it rang\n");

    let (mut given, mut taken) = (given(), taken());
    given.flows(SOME);
    held.flows(SOME);
    taken.flows(SOME);
    taken.was_right();
    drop((given, held));
    original.ends_well();

    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("disk"), &disk).unwrap();
        fs::write(folder.path().join("state"), &state).unwrap();
        let state = File::open(folder.path().join("state")).unwrap();
        let files = SnapshotFiles::new(state, memory.try_clone().unwrap());
        let start = Start::Restore { files, working_set: vmm::config::WorkingSet::default() };
        let copy = Worker::start(start, None, folder);
        copy.awaits(&Event::AgentReady);
        let (mut given, mut taken) = (Given::of(&copy), Taken::of(&copy));
        given.flows(SOME);
        taken.flows(SOME);
        taken.was_right();
        drop(given);
        copy.ends_well();
    }
}
