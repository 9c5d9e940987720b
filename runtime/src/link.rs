//! What an attached `hyperrun` and a container's supervisor say to each other, over a pair of
//! sockets that keep messages whole. The streams of the container travel along as open sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use protocol::{ExitStatus, StreamKind, WindowSize};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest message, in bytes; whatever can be longer is cut before.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The most sockets in one message: stdin, stdout, stderr.
const MAX_STREAMS: usize = 3;

/// What the attached side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToSupervisor {
    /// The terminal has a new size.
    Resize(WindowSize),
    /// The attached side was sent a signal that is the program's.
    Signal(i32),
    /// All the program wrote has been passed on: the machine may end.
    Drained,
}

/// What the supervisor says. When it closes the link after [`Self::Exited`] or [`Self::Failed`],
/// the container is gone; before, it was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromSupervisor {
    /// The machine runs, this long after the command.
    Running(Duration),
    /// The agent answers, this long after the command.
    AgentReady(Duration),
    /// The streams that travel with this message, in order.
    Streams(Vec<StreamKind>),
    /// The program has begun.
    Started,
    /// The program has ended.
    Exited(ExitStatus),
    /// There is no program, or no longer.
    Failed(Failure),
    /// What the guest's kernel prints, with `--debug`.
    Console(Vec<u8>),
    /// Something the guest says that a person should know, and that ends nothing.
    Trouble(String),
    /// The same, of the host's side.
    Warning(String),
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

impl Link {
    /// Makes both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let kind = SocketType::SEQPACKET;
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends a message and open streams with it.
    pub(crate) fn send_with(
        &self,
        message: &impl Serialize,
        streams: &[UnixStream],
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
        let flags = SendFlags::NOSIGNAL;
        let send = || rustix::net::sendmsg(&self.0, &parts, &mut ancillary, flags);
        rustix::io::retry_on_intr(send)?;
        Ok(())
    }

    /// Waits for a message; none means that the other side has closed its end.
    pub(crate) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<UnixStream>)>> {
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
        Ok(Some((message, streams.map(UnixStream::from).collect())))
    }

    /// Says that nothing more will be said; the other side's words still come.
    pub(crate) fn finish(&self) {
        // It fails only when the other side is gone, which is what is wanted.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn messages_and_streams_arrive_whole() {
        let (one, other) = Link::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        one.send(&FromSupervisor::Running(Duration::from_millis(3))).unwrap();
        one.send_with(&FromSupervisor::Streams(vec![StreamKind::Stdout]), &[far]).unwrap();
        drop(one);
        let (first, none) = other.receive::<FromSupervisor>().unwrap().unwrap();
        assert_eq!((first, none.len()), (FromSupervisor::Running(Duration::from_millis(3)), 0));
        let (_, mut streams) = other.receive::<FromSupervisor>().unwrap().unwrap();
        near.write_all(b"hi").unwrap();
        drop(near);
        let mut text = String::new();
        streams.pop().unwrap().read_to_string(&mut text).unwrap();
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
}
