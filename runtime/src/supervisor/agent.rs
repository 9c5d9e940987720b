//! The host's side of the agent: calls it through the machine's vsock socket, tells it what to run
//! and hears what became of it. Whatever it sends is hostile until it is parsed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use protocol::{
    CONTROL_PORT, ContainerSpec, FrameError, FromAgent, MAX_FRAME_BYTES, ProcessId, ProcessSpec,
    STREAM_PORT, StreamHello, StreamKind, ToAgent, VERSION,
};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::error::Error;
use crate::containers::MACHINE_SOCKET;

/// How long a guest that is ready may take over a single answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
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

    /// Connects the streams of one more process, of which the agent knows already.
    pub(super) fn streams(
        &self,
        id: ProcessId,
        kinds: &[StreamKind],
    ) -> Result<Vec<(StreamKind, UnixStream)>, Error> {
        open(id, self.knock_for(kinds)?)
    }

    fn knock_for(&self, kinds: &[StreamKind]) -> Result<Vec<(StreamKind, UnixStream)>, Error> {
        let knock = |kind: &StreamKind| -> io::Result<(StreamKind, UnixStream)> {
            Ok((*kind, self.knock(STREAM_PORT)?))
        };
        kinds.iter().map(knock).collect::<io::Result<_>>().map_err(unreachable)
    }

    /// Knocks at a port; [`answered`] waits for it to open.
    fn knock(&self, port: u32) -> io::Result<UnixStream> {
        let path = format!("/proc/self/fd/{}/{MACHINE_SOCKET}", self.folder.as_raw_fd());
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
        Ok(stream)
    }
}

/// Waits until the streams of a process are open.
fn open(
    id: ProcessId,
    mut streams: Vec<(StreamKind, UnixStream)>,
) -> Result<Vec<(StreamKind, UnixStream)>, Error> {
    for (kind, stream) in &mut streams {
        answered(stream).map_err(unreachable)?;
        protocol::write(stream, &StreamHello { id, kind: *kind }).map_err(misunderstood)?;
        // From here on a stream may be silent for as long as it likes.
        stream.set_read_timeout(None).map_err(Error::Connect)?;
        stream.set_write_timeout(None).map_err(Error::Connect)?;
    }
    Ok(streams)
}

/// Waits for `OK` and takes the line, and nothing behind it.
fn answered(stream: &mut UnixStream) -> io::Result<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > MAX_ANSWER_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if line.starts_with(b"OK ") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Why nothing came of a knock. To wait too long is an `EAGAIN`, which tells a person nothing.
fn unreachable(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::WouldBlock => Error::NoAnswer { seconds: ANSWER_TIMEOUT.as_secs() },
        _ => Error::Connect(source),
    }
}

/// Why a message did not come through.
fn misunderstood(error: FrameError) -> Error {
    match error {
        FrameError::Connection(source) if source.kind() == io::ErrorKind::WouldBlock => {
            unreachable(source)
        }
        error => Error::Agent(error),
    }
}

/// The control connection.
pub(super) struct Agent {
    control: UnixStream,
    incoming: Frames,
}

impl Agent {
    /// Tells the agent what to run and connects its streams. All knocks go out before the first
    /// answer is waited for: a way into the guest and back costs more than the words.
    pub(super) fn greet(
        door: &Door<'_>,
        container: &ContainerSpec,
    ) -> Result<(Self, Vec<(StreamKind, UnixStream)>), Error> {
        let control = door.knock(CONTROL_PORT).map_err(unreachable)?;
        let streams = door.knock_for(&streams_of(&container.process))?;
        let mut agent = Self { control, incoming: Frames::default() };
        answered(&mut agent.control).map_err(unreachable)?;
        agent.tell(&ToAgent::Hello { version: VERSION })?;
        agent.tell(&ToAgent::Run(Box::new(container.clone())))?;
        Ok((agent, open(ProcessId::OWN, streams)?))
    }

    /// Tells the agent to lay out a container's files, and to start nothing.
    pub(super) fn open(door: &Door<'_>, container: &ContainerSpec) -> Result<Self, Error> {
        let mut control = door.knock(CONTROL_PORT).map_err(Error::Connect)?;
        answered(&mut control).map_err(Error::Connect)?;
        let mut agent = Self { control, incoming: Frames::default() };
        agent.tell(&ToAgent::Hello { version: VERSION })?;
        agent.tell(&ToAgent::Open(Box::new(container.clone())))?;
        Ok(agent)
    }

    /// Says one thing.
    pub(super) fn tell(&mut self, message: &ToAgent) -> Result<(), Error> {
        protocol::write(&mut self.control, message).map_err(misunderstood)
    }

    /// What has arrived, without waiting for more; none when the agent has hung up.
    pub(super) fn listen(&mut self) -> Result<Option<Vec<FromAgent>>, Error> {
        let mut bytes = [0; 4096];
        let count = match recv(&self.control, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Some(Vec::new())),
            Err(Errno::CONNRESET) => 0,
            Err(error) => return Err(Error::Agent(FrameError::Connection(error.into()))),
        };
        if count == 0 {
            return Ok(None);
        }
        self.incoming.add(&bytes[..count]);
        let mut messages = Vec::new();
        while let Some(message) = self.incoming.next().map_err(Error::Agent)? {
            messages.push(message);
        }
        Ok(Some(messages))
    }

    /// The connection, to wait for.
    pub(super) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// What a process that somebody is with is connected by.
pub(super) fn streams_of(process: &ProcessSpec) -> Vec<StreamKind> {
    match (&process.terminal, process.stdin) {
        (Some(_), _) => vec![StreamKind::Terminal],
        (None, true) => vec![StreamKind::Stdin, StreamKind::Stdout, StreamKind::Stderr],
        (None, false) => vec![StreamKind::Stdout, StreamKind::Stderr],
    }
}

/// Frames as they come, a piece at a time.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message.
    fn next(&mut self) -> Result<Option<FromAgent>, FrameError> {
        let Some(header) = self.0.first_chunk() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*header) as usize;
        if bytes > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong { bytes });
        }
        if self.0.len() < 4 + bytes {
            return Ok(None);
        }
        let message = protocol::read(&mut &self.0[..4 + bytes])?;
        self.0.drain(..4 + bytes);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ExitStatus;

    #[test]
    fn frames_are_whole_however_they_come() {
        let mut wire = Vec::new();
        let id = ProcessId::OWN;
        let said = [
            FromAgent::Started { id },
            FromAgent::Exited { id, status: ExitStatus::Code(7), out_of_memory: None },
        ];
        for message in &said {
            protocol::write(&mut wire, message).unwrap();
        }
        for size in 1..=wire.len() {
            let mut frames = Frames::default();
            let mut heard = Vec::new();
            for piece in wire.chunks(size) {
                frames.add(piece);
                while let Some(message) = frames.next().unwrap() {
                    heard.push(message);
                }
            }
            assert_eq!(heard, said, "in pieces of {size}");
        }
    }

    #[test]
    fn a_frame_too_long_is_refused_before_it_comes() {
        let mut frames = Frames::default();
        frames.add(&[0xff; 4]);
        assert!(matches!(frames.next(), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_guest_that_is_silent_has_not_answered() {
        let (mut near, _far) = UnixStream::pair().unwrap();
        near.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        near.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        let words = "the agent in the guest did not answer within 10 s";
        assert_eq!(unreachable(answered(&mut near).unwrap_err()).to_string(), words);
        let hello = StreamHello { id: ProcessId::OWN, kind: StreamKind::Stdin };
        // Until the socket is full.
        let mut written = std::iter::repeat_with(|| protocol::write(&mut near, &hello));
        let error = written.find_map(Result::err).expect("nobody reads");
        assert_eq!(misunderstood(error).to_string(), words);
        let failed = unreachable(io::ErrorKind::ConnectionRefused.into());
        assert!(matches!(failed, Error::Connect(_)));
    }

    #[test]
    fn an_answer_is_one_line_and_no_more() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"OK 1024\nrest").unwrap();
        answered(&mut near).unwrap();
        let mut rest = [0; 4];
        near.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
        for wrong in [b"NO 1\n".as_slice(), b"OK 99999999999999999999\n"] {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            far.write_all(wrong).unwrap();
            assert!(answered(&mut near).is_err());
        }
    }
}
