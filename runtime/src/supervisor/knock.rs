//! Connections to the guest's ports that the guest has yet to answer. Nobody waits for it here: a guest
//! that hangs holds up whoever wants something of it, and not its supervisor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use protocol::{ProcessId, STREAM_PORT, StreamHello, StreamKind};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use super::error::Error;
use crate::containers::MACHINE_SOCKET;

/// How long a guest that is ready may take over a single answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer to `CONNECT`, in bytes: `OK 4294967295\n`.
const MAX_ANSWER_BYTES: usize = 16;

/// The way to the guest's ports.
pub(super) struct Door<'a> {
    folder: &'a File,
}

impl<'a> Door<'a> {
    /// The machine whose socket lies in `folder`.
    pub(super) fn new(folder: &'a File) -> Self {
        Self { folder }
    }

    /// Knocks for the streams of a process. All knocks go out before the first answer is listened for: a
    /// way into the guest and back costs more than the words.
    pub(super) fn streams(&self, id: ProcessId, kinds: &[StreamKind]) -> Result<Opening, Error> {
        let knock = |kind: &StreamKind| Ok((*kind, self.knock(STREAM_PORT)?));
        let streams = kinds.iter().map(knock).collect::<Result<_, Error>>()?;
        Ok(Opening { id, streams })
    }

    /// Knocks at a port.
    pub(super) fn knock(&self, port: u32) -> Result<Knock, Error> {
        let path = format!("/proc/self/fd/{}/{MACHINE_SOCKET}", self.folder.as_raw_fd());
        let knock = || -> io::Result<Knock> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            let stream = UnixStream::from(socket);
            // Whoever gets it in the end may wait as long as they like.
            stream.set_nonblocking(false)?;
            send_whole(&stream, format!("CONNECT {port}\n").as_bytes())?;
            Ok(Knock { stream, line: Vec::new(), is_open: false })
        };
        knock().map_err(unreachable)
    }
}

/// A connection to a port.
#[derive(Debug)]
pub(super) struct Knock {
    stream: UnixStream,
    /// What has come of the answer.
    line: Vec<u8>,
    is_open: bool,
}

impl Knock {
    /// Takes what has come of the answer, `OK` and a number, and nothing behind it; whether it is whole.
    pub(super) fn hear(&mut self) -> Result<bool, Error> {
        while !self.is_open {
            let mut byte = [0];
            match recv(&self.stream, &mut byte, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Error::Connect(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => self.add(byte[0]).map_err(Error::Connect)?,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::Connect(error.into())),
            }
        }
        Ok(true)
    }

    fn add(&mut self, byte: u8) -> io::Result<()> {
        self.line.push(byte);
        self.is_open = byte == b'\n';
        let is_right = !self.is_open || self.line.starts_with(b"OK ");
        if is_right && self.line.len() <= MAX_ANSWER_BYTES {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Whether it has been answered.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The connection.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// The streams of a process on their way.
#[derive(Debug)]
pub(super) struct Opening {
    /// Whose they are.
    pub(super) id: ProcessId,
    streams: Vec<(StreamKind, Knock)>,
}

impl Opening {
    /// Whose answer is waited for.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let silent = self.streams.iter().filter(|(_, knock)| !knock.is_open());
        silent.map(|(_, knock)| knock.stream().as_fd())
    }

    /// Hears what has come, and says in each stream that is open what it is for; whether all are.
    pub(super) fn hear(&mut self) -> Result<bool, Error> {
        let mut all_open = true;
        for (kind, knock) in &mut self.streams {
            if knock.is_open() {
                continue;
            }
            if !knock.hear()? {
                all_open = false;
                continue;
            }
            let mut hello = Vec::new();
            let said = StreamHello { id: self.id, kind: *kind };
            protocol::write(&mut hello, &said).map_err(Error::Agent)?;
            send_whole(knock.stream(), &hello).map_err(unreachable)?;
        }
        Ok(all_open)
    }

    /// The streams, which are open.
    pub(super) fn finish(self) -> Vec<(StreamKind, UnixStream)> {
        self.streams.into_iter().map(|(kind, knock)| (kind, knock.stream)).collect()
    }
}

/// Says a few words in a connection that has not been used before, so that there is room for them.
fn send_whole(stream: &UnixStream, words: &[u8]) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let count = rustix::io::retry_on_intr(|| send(stream, words, flags))?;
    if count == words.len() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Why nothing comes of a knock. A machine that takes nothing is an `EAGAIN`, which tells a person
/// nothing.
fn unreachable(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::WouldBlock => no_answer(),
        _ => Error::Connect(source),
    }
}

/// The guest has taken too long.
pub(super) fn no_answer() -> Error {
    Error::NoAnswer { seconds: ANSWER_TIMEOUT.as_secs() }
}

#[cfg(test)]
mod tests;
