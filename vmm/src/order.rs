//! What a machine's owner has it do while its guest runs: messages on a socket, open files with them. What
//! became of them is told as [`Event`](crate::Event)s.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair,
};
use serde::{Deserialize, Serialize};

use crate::config::{NetBackend, NetConfig, NetLimits, SnapshotFiles};
use crate::virtio::worker::STACK_BYTES;
use crate::wake::Wake;

/// No order is longer.
const MAX_BYTES: usize = 256;
/// Or has more files.
const MAX_FILES: usize = 24;

/// Something to be done while the guest runs.
#[derive(Debug)]
pub enum Order {
    /// Put something behind an interface that has no device, which the guest finds from then on.
    Plug {
        /// The interface: 0 is the machine's own, the spare ones follow.
        interface: u8,
        /// What the device is.
        net: NetConfig,
    },
    /// Take an interface's device away. The guest's driver must have let go of it: it is stopped.
    Unplug {
        /// The interface.
        interface: u8,
    },
    /// Begin to save the machine into these files: write what does not change any more.
    BeginSave(SaveFiles),
    /// Write the rest of what was begun, while it stands still.
    Save(AfterSave),
    /// Forget what was begun.
    AbandonSave,
}

/// Where a machine is saved that lives: empty files, each to be read and written.
#[derive(Debug)]
pub struct SaveFiles {
    /// State and memory.
    pub machine: SnapshotFiles,
    /// The overlay of each of its writable disks, in their order.
    pub overlays: Vec<File>,
    /// What it was saved as before, to write no more than what differs from that, if the machine finds that it
    /// can: it says in its state how many files there are then.
    pub parent: Option<Parent>,
    /// What tells of its memory, for it opens nothing while its guest runs.
    pub pages: PageFiles,
}

/// What tells which pages a process has, and which of them were written since some moment.
#[derive(Debug)]
pub struct PageFiles {
    /// Its `/proc/PID/pagemap`, to be read.
    pub pagemap: File,
    /// Its `/proc/PID/clear_refs`, to be written.
    pub clear_refs: File,
}

impl PageFiles {
    /// Those of a process.
    ///
    /// # Errors
    /// When it is not there, or somebody else's.
    pub fn of(process: u32) -> io::Result<Self> {
        let place = |name| format!("/proc/{process}/{name}");
        Ok(Self {
            pagemap: File::open(place("pagemap"))?,
            clear_refs: File::options().write(true).open(place("clear_refs"))?,
        })
    }
}

/// The files of a machine that was saved while it lived.
#[derive(Debug)]
pub struct Parent {
    /// Its state.
    pub state: File,
    /// Of its memory, the youngest first.
    pub memory: Vec<File>,
    /// Of each of its writable disks, the youngest first.
    pub overlays: Vec<Vec<File>>,
}

/// What a machine does once it is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterSave {
    /// It goes on.
    GoOn,
    /// It ends, so that nothing happens in it that the copy does not have.
    End,
}

/// An order without its files.
#[derive(Debug, Serialize, Deserialize)]
enum Words {
    /// The files are the backend's, then vhost-net.
    Plug {
        interface: u8,
        backend: BackendKind,
        has_vhost: bool,
        limits: NetLimits,
    },
    Unplug {
        interface: u8,
    },
    /// The files are state, memory, pagemap, and `clear_refs`, then the overlays; then those of the parent, if that has any
    /// layers: its state, and so many files of its memory and of each disk.
    BeginSave {
        overlays: u8,
        layers: u8,
    },
    Save(AfterSave),
    AbandonSave,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum BackendKind {
    Nothing,
    Tap,
    Stream,
}

/// The owner's end.
#[derive(Debug)]
pub struct OrderSender(OwnedFd);

/// The machine's end.
#[derive(Debug)]
pub struct OrderReceiver(OwnedFd);

/// Both ends.
///
/// # Errors
/// When the host has no more descriptors.
pub fn orders() -> io::Result<(OrderSender, OrderReceiver)> {
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((OrderSender(one), OrderReceiver(other)))
}

impl OrderSender {
    /// Gives an order, without waiting.
    ///
    /// # Errors
    /// When the machine is gone, or has not taken many orders that came before.
    pub fn send(&self, order: Order) -> io::Result<()> {
        let (words, files) = words(order);
        let bytes = postcard::to_stdvec(&words).map_err(io::Error::other)?;
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, flags)?;
        Ok(())
    }
}

impl OrderReceiver {
    /// The next order; none when no more will come.
    fn receive(&self) -> io::Result<Option<Order>> {
        let mut bytes = [0; MAX_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.0, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let files = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => files.collect(),
            _ => Vec::new(),
        });
        order(&bytes[..received.bytes], files).map(Some)
    }
}

/// An order as words, and its files.
fn words(order: Order) -> (Words, Vec<OwnedFd>) {
    let (interface, net) = match order {
        Order::Plug { interface, net } => (interface, net),
        Order::Unplug { interface } => return (Words::Unplug { interface }, Vec::new()),
        Order::Save(after) => return (Words::Save(after), Vec::new()),
        Order::AbandonSave => return (Words::AbandonSave, Vec::new()),
        Order::BeginSave(files) => {
            let count = |files: &[File]| u8::try_from(files.len()).unwrap_or(u8::MAX);
            let layers = files.parent.as_ref().map_or(0, |parent| count(&parent.memory));
            let overlays = count(&files.overlays);
            return (Words::BeginSave { overlays, layers }, files.into_descriptors());
        }
    };
    let NetConfig { backend, vhost, limits } = net;
    let (backend, file) = match backend {
        NetBackend::Nothing => (BackendKind::Nothing, None),
        NetBackend::Tap(tap) => (BackendKind::Tap, Some(tap.into())),
        NetBackend::Stream(socket) => (BackendKind::Stream, Some(socket.into())),
    };
    let has_vhost = vhost.is_some();
    let files = file.into_iter().chain(vhost.map(OwnedFd::from)).collect();
    (Words::Plug { interface, backend, has_vhost, limits }, files)
}

/// What came with these files.
fn order(bytes: &[u8], files: impl IntoIterator<Item = OwnedFd>) -> io::Result<Order> {
    let mut files = files.into_iter();
    let mut file = || files.next().ok_or(io::ErrorKind::InvalidData);
    Ok(match postcard::from_bytes(bytes).map_err(io::Error::other)? {
        Words::Unplug { interface } => Order::Unplug { interface },
        Words::Save(after) => Order::Save(after),
        Words::AbandonSave => Order::AbandonSave,
        Words::BeginSave { overlays, layers } => {
            let machine = SnapshotFiles::new(file()?.into(), file()?.into());
            let pages = PageFiles { pagemap: file()?.into(), clear_refs: file()?.into() };
            let mut some = |count: u8| -> io::Result<Vec<File>> {
                (0..count).map(|_| Ok(file()?.into())).collect()
            };
            let own = some(overlays)?;
            let parent = match layers {
                0 => None,
                layers => Some(Parent {
                    state: some(1)?.remove(0),
                    memory: some(layers)?,
                    overlays: (0..overlays).map(|_| some(layers)).collect::<io::Result<_>>()?,
                }),
            };
            Order::BeginSave(SaveFiles { machine, overlays: own, parent, pages })
        }
        Words::Plug { interface, backend, has_vhost, limits } => {
            let backend = match backend {
                BackendKind::Nothing => NetBackend::Nothing,
                BackendKind::Tap => NetBackend::Tap(file()?.into()),
                BackendKind::Stream => NetBackend::Stream(file()?.into()),
            };
            let vhost = if has_vhost { Some(file()?.into()) } else { None };
            Order::Plug { interface, net: NetConfig { backend, vhost, limits } }
        }
    })
}

impl SaveFiles {
    fn into_descriptors(self) -> Vec<OwnedFd> {
        let Self { machine: SnapshotFiles { state, memory, .. }, overlays, parent, pages } = self;
        let PageFiles { pagemap, clear_refs } = pages;
        let parents = parent.into_iter().flat_map(|Parent { state, memory, overlays }| {
            std::iter::once(state).chain(memory).chain(overlays.into_iter().flatten())
        });
        let own = [state, memory, pagemap, clear_refs].into_iter().chain(overlays);
        own.chain(parents).map(OwnedFd::from).collect()
    }
}

/// Listens to a machine's owner in a thread of its own.
#[derive(Debug)]
pub(crate) struct Listener {
    thread: JoinHandle<()>,
    socket: OwnedFd,
}

impl Listener {
    /// Hands on to `wakes` what is ordered, until the owner is gone or says what is no order.
    ///
    /// # Errors
    /// When the host refuses a descriptor or a thread.
    pub(crate) fn start(orders: OrderReceiver, wakes: SyncSender<Wake>) -> io::Result<Self> {
        let socket = orders.0.try_clone()?;
        let builder = thread::Builder::new().name("orders".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            while let Ok(Some(order)) = orders.receive() {
                if wakes.send(Wake::Order(order)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { thread, socket })
    }

    /// Ends the thread.
    pub(crate) fn stop(self) {
        // It fails only when the owner is gone, and the thread with it.
        let _ = shutdown(&self.socket, Shutdown::Both);
        // It does not panic.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::FileExt;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn orders_arrive_with_their_files() {
        let (sender, receiver) = orders().expect("descriptors");
        let (mut reader, writer) = io::pipe().expect("descriptors");
        let limits = NetLimits { received_bytes: Some(7), sent_bytes: None };
        let backend = NetBackend::Tap(File::from(OwnedFd::from(writer)));
        let vhost = Some(File::open("/dev/null").expect("it is always there"));
        let net = NetConfig { backend, vhost, limits };
        sender.send(Order::Plug { interface: 3, net }).expect("there is room");
        sender.send(Order::Unplug { interface: 4 }).expect("there is room");
        drop(sender);
        let plug = receiver.receive().expect("it is whole");
        let Some(Order::Plug { interface: 3, net }) = plug else { panic!("{plug:?}") };
        assert_eq!((net.limits, net.vhost.is_some()), (limits, true));
        let NetBackend::Tap(mut file) = net.backend else { panic!("{net:?}") };
        file.write_all(b"x").expect("it is a pipe");
        drop(file);
        let mut heard = String::new();
        reader.read_to_string(&mut heard).expect("it is text");
        assert_eq!(heard, "x");
        let unplug = receiver.receive().expect("it is whole");
        assert!(matches!(unplug, Some(Order::Unplug { interface: 4 })));
        assert!(matches!(receiver.receive(), Ok(None)));
    }

    #[test]
    fn a_place_to_save_arrives_with_all_its_files() {
        let (sender, receiver) = orders().expect("descriptors");
        let file = |text: &str| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(text.as_bytes()).expect("there is room");
            file
        };
        let machine = SnapshotFiles::new(file("state"), file("memory"));
        let overlays = vec![file("one"), file("two")];
        let some = |text: &str| vec![file(text), file("lower")];
        let parent = Parent {
            state: file("parent"),
            memory: some("upper"),
            overlays: vec![some("first"), some("second")],
        };
        let pages = PageFiles { pagemap: file("pagemap"), clear_refs: file("clear_refs") };
        let files = SaveFiles { machine, overlays, parent: Some(parent), pages };
        sender.send(Order::BeginSave(files)).expect("there is room");
        sender.send(Order::Save(AfterSave::End)).expect("there is room");
        let Ok(Some(Order::BeginSave(files))) = receiver.receive() else { panic!("another order") };
        let SaveFiles { machine, overlays, parent, pages } = files;
        let parent = parent.expect("it came");
        let text = |file: File| {
            let mut bytes = [0; 16];
            let count = file.read_at(&mut bytes, 0).expect("it is a file");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        };
        let own = [machine.state, machine.memory, pages.pagemap, pages.clear_refs];
        let came: Vec<_> = own.into_iter().chain(overlays).map(text).collect();
        assert_eq!(came, ["state", "memory", "pagemap", "clear_refs", "one", "two"]);
        let lower = parent.memory.into_iter().chain(parent.overlays.into_iter().flatten());
        let came: Vec<_> = std::iter::once(parent.state).chain(lower).map(text).collect();
        assert_eq!(came, ["parent", "upper", "lower", "first", "lower", "second", "lower"]);
        assert!(matches!(receiver.receive(), Ok(Some(Order::Save(AfterSave::End)))));
    }

    #[test]
    fn what_is_no_order_is_refused() {
        let tap = Words::Plug {
            interface: 1,
            backend: BackendKind::Tap,
            has_vhost: false,
            limits: NetLimits::default(),
        };
        let tap = postcard::to_stdvec(&tap).expect("it is short");
        for bytes in [&tap[..], &[9], &[0], &[2], &[2, 1, 1], &[3, 7], &[]] {
            assert!(order(bytes, None).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_listener_ends_when_it_is_told() {
        let (sender, receiver) = orders().expect("descriptors");
        let (wakes, heard) = mpsc::sync_channel(1);
        let listener = Listener::start(receiver, wakes).expect("a thread");
        sender.send(Order::Unplug { interface: 1 }).expect("there is room");
        let wake = heard.recv().expect("it listens");
        assert!(matches!(wake, Wake::Order(Order::Unplug { interface: 1 })));
        listener.stop();
        assert!(sender.send(Order::Unplug { interface: 1 }).is_err());
    }
}
