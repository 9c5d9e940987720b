//! What `hyperrun` and a container's supervisor say to each other, over a pair of sockets that keep
//! messages whole. The streams of the container travel along as open files.
//!
//! Whoever comes in by the container's socket says [`ToSupervisor::Hello`] first, and is answered
//! with the supervisor's version, whatever theirs is; those two messages never change their form, so
//! that each side can tell that the other one is of another version. The one that has started the
//! supervisor has its end of the pair from the start.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use protocol::{ExecSpec, FileJob, Interface, Question, StreamKind, WindowSize};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Rises with every change of the messages.
pub(crate) const LINK_VERSION: u32 = 6;
/// The longest message, in bytes; whatever can be longer is cut before.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The most files in one message: those of a snapshot, and of the one that it lies over.
const MAX_STREAMS: usize = 24;
/// How many may wait to be let in.
const BACKLOG: i32 = 64;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToSupervisor {
    /// First, by whoever comes in by the socket.
    Hello {
        /// [`LINK_VERSION`] of the sender.
        version: u32,
    },
    /// Show me the program's output from now on; the answer is [`FromSupervisor::Streams`].
    Attach {
        /// Whether the program's input is wanted too.
        input: bool,
    },
    /// The terminal has a new size.
    Resize(WindowSize),
    /// A signal for the program.
    Signal(i32),
    /// The same, by somebody who waits for [`FromSupervisor::Done`].
    Kill(i32),
    /// Nobody reads this stream of the program any more: the program shall know.
    Hangup(StreamKind),
    /// The client goes, and the container stays as it is.
    Detach,
    /// End the program.
    Stop {
        /// The signal it is asked with.
        signal: i32,
        /// The seconds until it is killed; none waits for ever.
        patience: Option<u64>,
    },
    /// Tell me when the container has ended.
    Wait,
    /// Start one more process, and give me its streams: from now on this client is about it.
    Exec(Box<ExecSpec>),
    /// Ask the agent.
    Ask(Question),
    /// Let the agent do something about files, and give me the stream for it.
    Files(Box<FileJob>),
    /// Plug in the tap that travels with this message, with vhost-net behind it where that is there; the
    /// answer is the agent's.
    Connect {
        /// As what the container shall see it.
        interface: Box<Interface>,
        /// Who answers for names there.
        resolver: Ipv4Addr,
    },
    /// Take away the interface with this hardware address; the answer is the agent's.
    Disconnect {
        /// The address.
        mac: [u8; 6],
    },
    /// Save the machine with its container into the files that travel with this message: state, memory, and
    /// the overlay of its writable disk; with those of a snapshot behind them, only what differs from that: its
    /// state, and as many files of its memory as of its disk. The answer is [`FromSupervisor::Saved`].
    Snapshot(Afterwards),
}

/// What becomes of a container once it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Afterwards {
    /// It goes on.
    GoOn,
    /// It is killed where it is, so that nothing happens in it that its copies do not have.
    Stop,
}

/// How a container was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// How long it stood still.
    pub pause: Duration,
    /// The bytes that were written.
    pub written: u64,
}

/// What the supervisor says. When it closes the link after [`Self::Exited`] or [`Self::Failed`],
/// the container has ended; before, it was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromSupervisor {
    /// The answer to a client's hello.
    Hello {
        /// [`LINK_VERSION`] of the sender.
        version: u32,
    },
    /// The machine runs, this long after the command.
    Running(Duration),
    /// The agent answers, this long after the command.
    AgentReady(Duration),
    /// The streams that travel with this message, in order.
    Streams(Vec<StreamKind>),
    /// The program has begun.
    Started,
    /// The container has ended, with this code.
    Exited(u8),
    /// There is no program, or no longer.
    Failed(Failure),
    /// What the guest's kernel prints, with `--debug`.
    Console(Vec<u8>),
    /// Something the guest says that a person should know, and that ends nothing.
    Trouble(String),
    /// The same, of the host's side.
    Warning(String),
    /// It was done.
    Done,
    /// It was not done, for this reason.
    Refused(String),
    /// The client is no longer attached.
    Detached,
    /// The container was saved.
    Saved(Taken),
    /// What the agent has answered lies in the file that travels with this message.
    Answer,
}

/// Why a supervisor gave up, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The exit code to end with.
    pub code: u8,
    /// The error and its causes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The guest's last lines, or nothing.
    pub console: String,
    /// Where the fault may lie.
    pub blame: Blame,
}

/// Where the fault of a [`Failure`] may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blame {
    /// In the machine, so that a test of the host's KVM is worth its time.
    Machine,
    /// In the template that the machine went on from: nothing has happened in it yet.
    Template,
    /// Anywhere else.
    #[default]
    Other,
}

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

/// Where links are made, one for each who comes.
#[derive(Debug)]
pub(crate) struct Doorway(OwnedFd);

/// What becomes of a message to somebody who does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Wait,
    Fail,
}

impl Link {
    /// Makes both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let kind = SocketType::SEQPACKET;
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Knocks at the doorway `name` in `folder`, whose path may be too long for a socket.
    pub(crate) fn connect(folder: &Path, name: &str) -> io::Result<Self> {
        let folder = std::fs::File::open(folder)?;
        let socket = socket()?;
        rustix::net::connect(&socket, &address(&folder, name)?)?;
        Ok(Self(socket))
    }

    /// Sends a message, and waits for room for it.
    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_all(message, &[], Patience::Wait)
    }

    /// The same, with open files.
    pub(crate) fn send_with(&self, message: &impl Serialize, files: &[OwnedFd]) -> io::Result<()> {
        self.send_all(message, files, Patience::Wait)
    }

    /// Sends a message, and fails where there is no room for it.
    pub(crate) fn try_send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_all(message, &[], Patience::Fail)
    }

    /// The same, with open files.
    pub(crate) fn try_send_with(
        &self,
        message: &impl Serialize,
        streams: &[OwnedFd],
    ) -> io::Result<()> {
        self.send_all(message, streams, Patience::Fail)
    }

    fn send_all(
        &self,
        message: &impl Serialize,
        streams: &[OwnedFd],
        patience: Patience,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        protocol::write(&mut bytes, message).map_err(io::Error::other)?;
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let streams: Vec<BorrowedFd<'_>> = streams.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_STREAMS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !streams.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&streams)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let parts = [IoSlice::new(&bytes)];
        let flags = match patience {
            Patience::Wait => SendFlags::NOSIGNAL,
            Patience::Fail => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        };
        let send = || rustix::net::sendmsg(&self.0, &parts, &mut ancillary, flags);
        rustix::io::retry_on_intr(send)?;
        Ok(())
    }

    /// Waits for a message; none means that the other side has closed its end.
    pub(crate) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_STREAMS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(&self.0, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            // The other side was killed with messages of ours unread.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => received?,
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let message = protocol::read(&mut &bytes[..received.bytes]).map_err(io::Error::other)?;
        let streams = ancillary.drain().flat_map(|part| match part {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        });
        Ok(Some((message, streams.collect())))
    }

    /// Says that nothing more will be said; the other side's words still come.
    pub(crate) fn finish(&self) {
        // It fails only when the other side is gone, which is what is wanted.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }
}

impl Doorway {
    /// Opens the doorway `name` in `folder`, in the place of one that was left behind.
    pub(crate) fn open(folder: &std::fs::File, name: &str) -> io::Result<Self> {
        match rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let socket = socket()?;
        rustix::net::bind(&socket, &address(folder, name)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self(socket))
    }

    /// Lets in whoever has knocked; none if they have gone again.
    pub(crate) fn accept(&self) -> Option<Link> {
        rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC).ok().map(Link)
    }
}

fn socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn address(folder: &std::fs::File, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?)
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Doorway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_and_streams_arrive_whole() {
        let (one, other) = Link::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        one.send(&FromSupervisor::Running(Duration::from_millis(3))).unwrap();
        let streams = FromSupervisor::Streams(vec![StreamKind::Stdout]);
        one.try_send_with(&streams, &[far.into()]).unwrap();
        drop(one);
        let (first, none) = other.receive::<FromSupervisor>().unwrap().unwrap();
        assert_eq!((first, none.len()), (FromSupervisor::Running(Duration::from_millis(3)), 0));
        let (_, mut streams) = other.receive::<FromSupervisor>().unwrap().unwrap();
        near.write_all(b"hi").unwrap();
        drop(near);
        let mut text = String::new();
        File::from(streams.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        assert!(other.receive::<FromSupervisor>().unwrap().is_none());
    }

    #[test]
    fn a_side_can_finish_and_still_listen() {
        let (one, other) = Link::pair().unwrap();
        one.finish();
        assert!(other.receive::<ToSupervisor>().unwrap().is_none());
        other.send(&FromSupervisor::Started).unwrap();
        assert!(one.receive::<FromSupervisor>().unwrap().is_some());
    }

    #[test]
    fn doorways_have_long_paths_and_take_the_place_of_dead_ones() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a".repeat(200));
        std::fs::create_dir(&path).unwrap();
        let folder = File::open(&path).unwrap();
        assert!(Link::connect(&path, "door").is_err());
        drop(Doorway::open(&folder, "door").unwrap());
        assert!(Link::connect(&path, "door").is_err());
        let doorway = Doorway::open(&folder, "door").unwrap();
        let near = Link::connect(&path, "door").unwrap();
        let far = doorway.accept().unwrap();
        near.send(&ToSupervisor::Hello { version: 7 }).unwrap();
        let (heard, _) = far.receive::<ToSupervisor>().unwrap().unwrap();
        assert_eq!(heard, ToSupervisor::Hello { version: 7 });
    }

    #[test]
    fn nobody_waits_for_who_does_not_read() {
        let (one, other) = Link::pair().unwrap();
        let message = FromSupervisor::Console(vec![0; 16 << 10]);
        let sent = (0..1000).take_while(|_| one.try_send(&message).is_ok()).count();
        assert!(sent > 0 && sent < 1000, "{sent}");
        drop(other);
    }

    /// An older or a newer hyperrun must be able to read these.
    #[test]
    fn a_hello_never_changes_its_form() {
        let (mut to, mut from) = (Vec::new(), Vec::new());
        protocol::write(&mut to, &ToSupervisor::Hello { version: 5 }).unwrap();
        protocol::write(&mut from, &FromSupervisor::Hello { version: 5 }).unwrap();
        assert_eq!(to, [2, 0, 0, 0, 0, 5]);
        assert_eq!(from, to);
    }
}
