//! The host's side of the agent: calls it through the machine's vsock socket, tells it what to run
//! and hears what became of it. Whatever it sends is hostile until it is parsed, and when it takes
//! nothing, what it is told waits here.

use std::os::fd::{AsFd, BorrowedFd};

use protocol::{
    CONTROL_PORT, FrameError, FromAgent, MAX_FRAME_BYTES, ProcessSpec, StreamKind, ToAgent, VERSION,
};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::error::Error;
use super::knock::{Door, Knock, no_answer};

/// The most that waits for an agent that takes nothing, in bytes: a container's spec and much talk.
const MAX_UNSENT_BYTES: usize = 2 * MAX_FRAME_BYTES;

/// The control connection.
pub(super) struct Agent {
    control: Knock,
    incoming: Frames,
    /// What it has not taken yet.
    unsent: Vec<u8>,
}

impl Agent {
    /// Calls the agent. What it is told before it has answered waits until it has.
    pub(super) fn call(door: &Door<'_>) -> Result<Self, Error> {
        let control = door.knock(CONTROL_PORT)?;
        let mut agent = Self { control, incoming: Frames::default(), unsent: Vec::new() };
        agent.tell(&ToAgent::Hello { version: VERSION })?;
        Ok(agent)
    }

    /// Says one thing, at once or when it is taken.
    pub(super) fn tell(&mut self, message: &ToAgent) -> Result<(), Error> {
        protocol::write(&mut self.unsent, message).map_err(Error::Agent)?;
        self.send()?;
        if self.unsent.len() > MAX_UNSENT_BYTES { Err(no_answer()) } else { Ok(()) }
    }

    /// Sends what is taken at once.
    fn send(&mut self) -> Result<(), Error> {
        while self.control.is_open() && !self.unsent.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(self.control.stream(), &self.unsent, flags) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::INTR) => {}
                // A connection that has broken is heard of when it is listened to: something may have
                // been said before.
                Err(Errno::AGAIN | Errno::PIPE | Errno::CONNRESET) => break,
                Err(error) => return Err(Error::Agent(FrameError::Connection(error.into()))),
            }
        }
        if self.unsent.is_empty() {
            // An idle container holds no memory for what its agent was told.
            self.unsent = Vec::new();
        }
        Ok(())
    }

    /// What has arrived, without waiting for more; none when the agent has hung up. What it could not
    /// take before goes out.
    pub(super) fn listen(&mut self) -> Result<Option<Vec<FromAgent>>, Error> {
        match self.control.hear() {
            Ok(true) => {}
            Ok(false) => return Ok(Some(Vec::new())),
            Err(Error::Connect(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        self.send()?;
        let mut bytes = [0; 4096];
        let count = match recv(self.control.stream(), &mut bytes, RecvFlags::DONTWAIT) {
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

    /// The connection, and what to wait for.
    pub(super) fn control(&self) -> (BorrowedFd<'_>, PollFlags) {
        let waits = self.control.is_open() && !self.unsent.is_empty();
        let out = if waits { PollFlags::OUT } else { PollFlags::empty() };
        (self.control.stream().as_fd(), PollFlags::IN | out)
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

/// Whether among what has come is the one word that is waited for, of an agent that is asked for
/// nothing else.
///
/// # Errors
/// When it says before that it cannot, or speaks another version.
pub(super) fn has_said(messages: Vec<FromAgent>, awaited: &FromAgent) -> Result<bool, Error> {
    for message in messages {
        match message {
            message if message == *awaited => return Ok(true),
            FromAgent::StartFailed { error, .. } => return Err(Error::Start(error)),
            FromAgent::Hello { version } if version != VERSION => {
                return Err(Error::Version { version });
            }
            _ => {}
        }
    }
    Ok(false)
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
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::containers::MACHINE_SOCKET;
    use protocol::{ExitStatus, FileJob, Links, ProcessId};

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
    fn what_an_agent_does_not_take_waits_and_comes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(MACHINE_SOCKET)).unwrap();
        let open = File::open(folder.path()).unwrap();
        let mut agent = Agent::call(&Door::new(&open)).unwrap();
        let (mut guest, _) = listener.accept().unwrap();
        let mut knock = [0; 13];
        guest.read_exact(&mut knock).unwrap();
        assert_eq!(knock, *format!("CONNECT {CONTROL_PORT}\n").as_bytes());

        let said = ToAgent::Signal { id: ProcessId::OWN, number: 1 };
        let times = 100_000;
        (0..times / 2).for_each(|_| agent.tell(&said).unwrap());
        assert_eq!(agent.listen().unwrap(), Some(Vec::new()));
        assert_eq!(agent.control().1, PollFlags::IN, "nobody has answered");
        guest.write_all(b"OK 7\n").unwrap();
        assert_eq!(agent.listen().unwrap(), Some(Vec::new()));
        (0..times / 2).for_each(|_| agent.tell(&said).unwrap());
        assert_eq!(agent.control().1, PollFlags::IN | PollFlags::OUT, "nobody reads");

        let reader = std::thread::spawn(move || {
            assert_eq!(read(&mut guest), ToAgent::Hello { version: VERSION });
            (0..times).for_each(|_| assert_eq!(read(&mut guest), said));
            protocol::write(&mut guest, &FromAgent::Opened).unwrap();
        });
        let mut heard = Vec::new();
        while let Some(messages) = agent.listen().unwrap() {
            heard.extend(messages);
        }
        assert_eq!(heard, [FromAgent::Opened]);
        reader.join().unwrap();
    }

    fn read(guest: &mut UnixStream) -> ToAgent {
        protocol::read(guest).unwrap()
    }

    #[test]
    fn an_agent_that_takes_nothing_is_not_told_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(folder.path().join(MACHINE_SOCKET)).unwrap();
        let open = File::open(folder.path()).unwrap();
        let mut agent = Agent::call(&Door::new(&open)).unwrap();
        let job = FileJob::Read { path: vec![b'x'; MAX_FRAME_BYTES / 2], links: Links::Kept };
        let said = ToAgent::Files { id: ProcessId(1), job: Box::new(job) };
        let told = (0..5).find_map(|_| agent.tell(&said).err());
        assert!(matches!(told, Some(Error::NoAnswer { .. })));
    }
}
