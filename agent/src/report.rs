//! How a process that joins the container tells the agent how far it has come: messages on a pair of
//! sockets, whose end is its `execve`.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use protocol::StartError;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::Pid,
};

use crate::step::{Doing, StepError};

/// The most that one message has: a program's name, at most 128 KiB, and some words.
const MAX_BYTES: usize = 256 << 10;

/// What has been told.
#[derive(Debug)]
pub(crate) enum Report {
    /// The agent's side of the terminal it has opened.
    Terminal(OwnedFd),
    /// The new process, as the agent's namespace numbers it.
    Made(Pid),
    /// It will not become its program.
    Failed(StartError),
    /// No more will be told.
    End,
}

/// The side that tells.
pub(crate) struct Teller(OwnedFd);

/// The side that is told.
pub(crate) struct Listener(OwnedFd);

/// Makes both sides.
pub(crate) fn pair() -> Result<(Teller, Listener), StepError> {
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .doing("make a pair of sockets")?;
    Ok((Teller(one), Listener(other)))
}

impl Teller {
    /// Hands the agent its side of a terminal.
    pub(crate) fn terminal(&self, master: &OwnedFd) -> Result<(), StepError> {
        self.send(&Ok(0), &[master.as_fd()]).doing("hand the terminal over")
    }

    /// Tells of the process that was made.
    pub(crate) fn made(&self, pid: Pid) -> Result<(), StepError> {
        self.send(&Ok(pid.as_raw_nonzero().get()), &[]).doing("tell of the new process")
    }

    /// Tells what has failed. If not even that works, the end says it.
    pub(crate) fn failed(&self, error: StartError) {
        let _ = self.send(&Err(error), &[]);
    }

    fn send(&self, message: &Result<i32, StartError>, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        protocol::write(&mut bytes, message).map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl AsFd for Teller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener {
    /// What has been told since, without waiting; none when that is nothing.
    pub(crate) fn next(&self) -> Option<Report> {
        let mut bytes = vec![0; MAX_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let count = match recvmsg(&self.0, parts, &mut ancillary, flags) {
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(_) => 0,
        };
        if count == 0 {
            return Some(Report::End);
        }
        let file = ancillary.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        Some(match (protocol::read(&mut &bytes[..count]), file) {
            (Ok(Ok(_)), Some(terminal)) => Report::Terminal(terminal),
            (Ok(Ok(pid)), None) => Pid::from_raw(pid).map_or(Report::End, Report::Made),
            (Ok(Err(error)), _) => Report::Failed(error),
            (Err(_), _) => Report::End,
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard_in_order() {
        let (teller, listener) = pair().unwrap();
        assert!(listener.next().is_none());
        let (one, _other) = rustix::pipe::pipe().unwrap();
        teller.terminal(&one).unwrap();
        teller.made(Pid::from_raw(4711).unwrap()).unwrap();
        let long = StartError::NotFound { program: "x".repeat(128 << 10) };
        teller.failed(long.clone());
        drop(teller);
        assert!(matches!(listener.next(), Some(Report::Terminal(_))));
        assert!(
            matches!(listener.next(), Some(Report::Made(pid)) if pid.as_raw_nonzero().get() == 4711)
        );
        assert!(matches!(listener.next(), Some(Report::Failed(error)) if error == long));
        assert!(matches!(listener.next(), Some(Report::End)));
        assert!(matches!(listener.next(), Some(Report::End)));
    }
}
