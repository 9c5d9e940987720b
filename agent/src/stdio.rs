//! Carries bytes between a container's process and its streams, one thread per direction.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
};

use protocol::{ProcessSpec, StreamKind};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::Errno,
    net::{Shutdown, shutdown},
    pipe::{PipeFlags, pipe_with},
    process::ioctl_tiocsctty,
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use crate::{
    step::{Doing, StepError},
    tty::Terminal,
};

/// The streams the host has connected so far.
#[derive(Default)]
pub(crate) struct Streams {
    connected: Vec<(StreamKind, OwnedFd)>,
}

impl Streams {
    /// Adds a stream; false if the process has no such stream, or has it already.
    pub(crate) fn add(&mut self, kind: StreamKind, socket: OwnedFd, spec: &ProcessSpec) -> bool {
        let wanted = needed(spec).contains(&kind) && !self.has(kind);
        if wanted {
            self.connected.push((kind, socket));
        }
        wanted
    }

    /// Whether a process may start.
    pub(crate) fn are_complete(&self, spec: &ProcessSpec) -> bool {
        needed(spec).iter().all(|kind| self.has(*kind))
    }

    fn has(&self, kind: StreamKind) -> bool {
        self.connected.iter().any(|(connected, _)| *connected == kind)
    }

    fn take(&mut self, kind: StreamKind) -> Option<OwnedFd> {
        let place = self.connected.iter().position(|(connected, _)| *connected == kind)?;
        Some(self.connected.swap_remove(place).1)
    }
}

/// The streams a process cannot start without.
fn needed(spec: &ProcessSpec) -> &'static [StreamKind] {
    match (spec.terminal, spec.stdin) {
        (Some(_), _) => &[StreamKind::Terminal],
        (None, true) => &[StreamKind::Stdin, StreamKind::Stdout, StreamKind::Stderr],
        (None, false) => &[StreamKind::Stdout, StreamKind::Stderr],
    }
}

/// The process's side: what becomes its descriptors 0, 1 and 2.
pub(crate) enum Stdio {
    /// Three pipes; no stdin is `/dev/null`.
    Pipes {
        /// Where it reads.
        stdin: Option<OwnedFd>,
        /// Where it writes.
        stdout: OwnedFd,
        /// Where it complains.
        stderr: OwnedFd,
    },
    /// One terminal for all three.
    Terminal(Terminal),
}

/// The agent's side: a descriptor and the stream it belongs to.
pub(crate) struct Pumps {
    pumps: Vec<Pump>,
}

struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    direction: Direction,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToProcess,
    FromProcess,
}

impl Stdio {
    /// Makes pipes or takes the terminal, and pairs the agent's ends with the streams.
    pub(crate) fn connect(
        spec: &ProcessSpec,
        terminal: Option<Terminal>,
        mut streams: Streams,
        owner: u32,
    ) -> Result<(Self, Pumps), StepError> {
        let mut pumps = Vec::new();
        let mut stream = |kind| streams.take(kind).ok_or(Errno::NOTCONN).doing("find a stream");
        if let Some(terminal) = terminal {
            let socket = stream(StreamKind::Terminal)?;
            let duplicate = |fd: &OwnedFd| fd.try_clone().doing("duplicate a descriptor");
            if spec.stdin {
                let (from, to) = (duplicate(&socket)?, duplicate(&terminal.master)?);
                pumps.push(Pump { from, to, direction: Direction::ToProcess });
            }
            let from = duplicate(&terminal.master)?;
            pumps.push(Pump { from, to: socket, direction: Direction::FromProcess });
            return Ok((Self::Terminal(terminal), Pumps { pumps }));
        }
        let mut stdin = None;
        if spec.stdin {
            let (reading, to) = owned_pipe(owner)?;
            let from = stream(StreamKind::Stdin)?;
            pumps.push(Pump { from, to, direction: Direction::ToProcess });
            stdin = Some(reading);
        }
        let mut output = |kind| {
            let (from, writing) = owned_pipe(owner)?;
            pumps.push(Pump { from, to: stream(kind)?, direction: Direction::FromProcess });
            Ok::<_, StepError>(writing)
        };
        let stdout = output(StreamKind::Stdout)?;
        let stderr = output(StreamKind::Stderr)?;
        Ok((Self::Pipes { stdin, stdout, stderr }, Pumps { pumps }))
    }

    /// The terminal, if it is one.
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        match self {
            Self::Terminal(terminal) => Some(terminal),
            Self::Pipes { .. } => None,
        }
    }

    /// The terminal's master, once the process has the rest.
    pub(crate) fn into_master(self) -> Option<OwnedFd> {
        match self {
            Self::Terminal(terminal) => Some(terminal.master),
            Self::Pipes { .. } => None,
        }
    }

    /// Makes this the standard input and output of the calling process, a session leader.
    pub(crate) fn install(&self) -> Result<(), StepError> {
        let (stdin, stdout, stderr) = match self {
            Self::Terminal(Terminal { slave, .. }) => {
                ioctl_tiocsctty(slave).doing("take the terminal as the controlling one")?;
                (slave, slave, slave)
            }
            Self::Pipes { stdin: Some(stdin), stdout, stderr } => (stdin, stdout, stderr),
            Self::Pipes { stdin: None, stdout, stderr } => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let null = open("/dev/null", flags, Mode::empty()).doing("open /dev/null")?;
                dup2_stdin(null).doing("connect the standard input")?;
                dup2_stdout(stdout).doing("connect the standard output")?;
                return dup2_stderr(stderr).doing("connect the standard error");
            }
        };
        dup2_stdin(stdin).doing("connect the standard input")?;
        dup2_stdout(stdout).doing("connect the standard output")?;
        dup2_stderr(stderr).doing("connect the standard error")
    }
}

/// A pipe whose both ends belong to the process's user, who may want to open `/dev/stdout` anew.
fn owned_pipe(owner: u32) -> Result<(OwnedFd, OwnedFd), StepError> {
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
    if owner != 0 {
        fchown(&reading, Some(Uid::from_raw(owner)), None::<Gid>).doing("give a pipe its owner")?;
    }
    Ok((reading, writing))
}

impl Pumps {
    /// Starts a thread for each direction. The descriptor returned hangs up when everything the
    /// process wrote has gone out and the streams have been shut down.
    pub(crate) fn start(self) -> Result<OwnedFd, StepError> {
        const STACK_BYTES: usize = 64 << 10;
        let (drained, running) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let running = Arc::new(running);
        for pump in self.pumps {
            let running = running.clone();
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || pump.run(running))
                .doing("start a thread for a stream")?;
        }
        Ok(drained)
    }
}

impl Pump {
    /// Carries until either side ends. `running` is let go of as soon as all output is out.
    fn run(self, running: Arc<OwnedFd>) {
        let Self { from, to, direction } = self;
        let mut from = File::from(from);
        let mut to = File::from(to);
        if direction == Direction::ToProcess {
            drop(running);
            // However it ends, both are let go of: that ends the process's input, and tells the
            // host, if this was a pipe's stream, that nobody reads any more.
            let _ = carry(&mut from, &mut to);
            return;
        }
        // A failure is an end like any other: the terminal was hung up (EIO), or the host has
        // closed the stream. The pipe goes first, so that a process still writing learns of it.
        let _ = carry(&mut from, &mut to);
        drop(from);
        let _ = shutdown(to.as_fd(), Shutdown::Write);
        drop(running);
        // A socket closed too early may take with it what the host has not read yet.
        let _ = io::copy(&mut to, &mut io::sink());
    }
}

/// Copies until the end. There is no buffer beyond one read: who reads slowly makes the writer
/// wait.
fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    const BUFFER_BYTES: usize = 64 << 10;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
