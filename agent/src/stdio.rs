//! What a container's process has as its standard input and output, and the streams that belong to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::{ProcessSpec, StreamKind};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::Errno,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::ioctl_tiocsctty,
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use crate::{
    exchange::{Direction, Place},
    pump::{OUTPUT_BYTES, Pump, Pumps},
    step::{Doing, StepError},
    tty::Terminal,
};

/// The streams a process needs, and those of them the host has connected so far.
pub(crate) struct Streams {
    needed: &'static [StreamKind],
    connected: Vec<(StreamKind, OwnedFd)>,
}

impl Streams {
    /// The streams of a process.
    pub(crate) fn of(spec: &ProcessSpec) -> Self {
        Self::needing(match (spec.terminal, spec.stdin) {
            (Some(_), _) => &[StreamKind::Terminal],
            (None, true) => &[StreamKind::Stdin, StreamKind::Stdout, StreamKind::Stderr],
            (None, false) => &[StreamKind::Stdout, StreamKind::Stderr],
        })
    }

    /// Those of a process that has none.
    pub(crate) fn none() -> Self {
        Self::needing(&[])
    }

    /// The one of a job about files.
    pub(crate) fn of_files() -> Self {
        Self::needing(&[StreamKind::Files])
    }

    /// These, of which none is connected.
    pub(crate) fn needing(needed: &'static [StreamKind]) -> Self {
        Self { needed, connected: Vec::new() }
    }

    /// Adds a stream; false if the process has no such stream, or has it already.
    pub(crate) fn add(&mut self, kind: StreamKind, socket: OwnedFd) -> bool {
        let wanted = self.needed.contains(&kind) && !self.has(kind);
        if wanted {
            self.connected.push((kind, socket));
        }
        wanted
    }

    /// Which the process needs.
    pub(crate) fn needed(&self) -> &'static [StreamKind] {
        self.needed
    }

    /// All that came.
    pub(crate) fn into_connected(self) -> Vec<(StreamKind, OwnedFd)> {
        self.connected
    }

    /// Whether the process may start.
    pub(crate) fn are_complete(&self) -> bool {
        self.needed.iter().all(|kind| self.has(*kind))
    }

    /// The stream of the terminal, if there is one.
    pub(crate) fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.take(StreamKind::Terminal)
    }

    /// The stream of a job about files, if it is there.
    pub(crate) fn take_files(&mut self) -> Option<OwnedFd> {
        self.take(StreamKind::Files)
    }

    fn has(&self, kind: StreamKind) -> bool {
        self.connected.iter().any(|(connected, _)| *connected == kind)
    }

    fn take(&mut self, kind: StreamKind) -> Option<OwnedFd> {
        let place = self.connected.iter().position(|(connected, _)| *connected == kind)?;
        Some(self.connected.swap_remove(place).1)
    }
}

/// Whether what the host sends is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// It is.
    Wanted,
    /// It is not, and the process's standard input is empty.
    None,
}

impl Input {
    /// As a spec says it.
    pub(crate) fn of(stdin: bool) -> Self {
        if stdin { Self::Wanted } else { Self::None }
    }
}

/// The process's side: what becomes its descriptors 0, 1 and 2.
pub(crate) enum Stdio {
    /// Up to three pipes.
    Pipes(Pipes),
    /// One terminal for all three.
    Terminal(Terminal),
}

/// The process's ends of its pipes; `/dev/null` stands for what is missing.
#[derive(Default)]
pub(crate) struct Pipes {
    stdin: Option<OwnedFd>,
    outputs: Option<Outputs>,
}

struct Outputs {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Makes pipes, and pairs the agent's ends with the streams.
pub(crate) fn connect(
    input: Input,
    streams: &mut Streams,
    owner: u32,
) -> Result<(Pipes, Pumps), StepError> {
    let mut pumps = Vec::new();
    let mut stream = |kind| streams.take(kind).ok_or(Errno::NOTCONN).doing("find a stream");
    let mut stdin = None;
    if input == Input::Wanted {
        let (reading, to) = owned_pipe(owner)?;
        let place = Place { kind: StreamKind::Stdin, direction: Direction::ToProcess };
        pumps.push(Pump { end: to, stream: stream(place.kind)?, place });
        stdin = Some(reading);
    }
    let mut output = |kind| {
        let (from, writing) = owned_pipe(owner)?;
        fcntl_setpipe_size(&from, OUTPUT_BYTES).doing("size a pipe")?;
        let place = Place { kind, direction: Direction::FromProcess };
        pumps.push(Pump { end: from, stream: stream(kind)?, place });
        Ok::<_, StepError>(writing)
    };
    let stdout = output(StreamKind::Stdout)?;
    let stderr = output(StreamKind::Stderr)?;
    Ok((Pipes { stdin, outputs: Some(Outputs { stdout, stderr }) }, Pumps(pumps)))
}

/// Pairs the agent's side of a terminal with its stream; without one, what is written is lost.
pub(crate) fn connect_terminal(
    master: &OwnedFd,
    stream: Option<OwnedFd>,
    input: Input,
) -> Result<Pumps, StepError> {
    let duplicate = |fd: &OwnedFd| fd.try_clone().doing("duplicate a descriptor");
    let mut pumps = Vec::new();
    if let (Some(socket), Input::Wanted) = (&stream, input) {
        let place = Place { kind: StreamKind::Terminal, direction: Direction::ToProcess };
        pumps.push(Pump { end: duplicate(master)?, stream: duplicate(socket)?, place });
    }
    let stream = match stream {
        Some(socket) => socket,
        None => open_null()?,
    };
    let place = Place { kind: StreamKind::Terminal, direction: Direction::FromProcess };
    pumps.push(Pump { end: duplicate(master)?, stream, place });
    Ok(Pumps(pumps))
}

impl Stdio {
    /// Makes pipes or takes the terminal, and pairs the agent's ends with the streams.
    pub(crate) fn connect(
        spec: &ProcessSpec,
        terminal: Option<Terminal>,
        mut streams: Streams,
        owner: u32,
    ) -> Result<(Self, Pumps), StepError> {
        let input = Input::of(spec.stdin);
        let Some(terminal) = terminal else {
            let (pipes, pumps) = connect(input, &mut streams, owner)?;
            return Ok((Self::Pipes(pipes), pumps));
        };
        let pumps = connect_terminal(&terminal.sides.master, streams.take_terminal(), input)?;
        Ok((Self::Terminal(terminal), pumps))
    }

    /// The pipes that the process gets, in the order in which [`Self::of_pipes`] takes them.
    pub(crate) fn pipes(&self) -> Vec<BorrowedFd<'_>> {
        let Self::Pipes(Pipes { stdin, outputs }) = self else { return Vec::new() };
        let outputs = outputs.iter().flat_map(|both| [&both.stdout, &both.stderr]);
        outputs.chain(stdin).map(AsFd::as_fd).collect()
    }

    /// Standard output and error, and an input if there is one.
    pub(crate) fn of_pipes(mut pipes: impl Iterator<Item = OwnedFd>) -> Self {
        let both = pipes.next().zip(pipes.next());
        let outputs = both.map(|(stdout, stderr)| Outputs { stdout, stderr });
        Self::Pipes(Pipes { stdin: pipes.next(), outputs })
    }

    /// The terminal, if it is one.
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        match self {
            Self::Terminal(terminal) => Some(terminal),
            Self::Pipes(_) => None,
        }
    }

    /// The terminal's master, once the process has the rest.
    pub(crate) fn into_master(self) -> Option<OwnedFd> {
        match self {
            Self::Terminal(terminal) => Some(terminal.sides.master),
            Self::Pipes(_) => None,
        }
    }

    /// Makes this the standard input and output of the calling process.
    pub(crate) fn install(&self) -> Result<(), StepError> {
        match self {
            Self::Terminal(terminal) => install_terminal(&terminal.sides.slave),
            Self::Pipes(pipes) => pipes.install(),
        }
    }

    /// Makes the terminal that is installed, if it is one, the controlling one of the calling
    /// process, a session leader.
    pub(crate) fn take_terminal(&self) -> Result<(), StepError> {
        match self {
            Self::Terminal(_) => take_terminal(),
            Self::Pipes(_) => Ok(()),
        }
    }
}

impl Pipes {
    /// Makes these the standard input and output of the calling process.
    pub(crate) fn install(&self) -> Result<(), StepError> {
        match &self.stdin {
            Some(stdin) => dup2_stdin(stdin),
            None => dup2_stdin(open_null()?),
        }
        .doing("connect the standard input")?;
        match &self.outputs {
            Some(Outputs { stdout, stderr }) => {
                dup2_stdout(stdout).and_then(|()| dup2_stderr(stderr))
            }
            None => dup2_stdout(open_null()?).and_then(|()| dup2_stderr(rustix::stdio::stdout())),
        }
        .doing("connect the standard output")
    }
}

/// Makes a terminal the standard input and output of the calling process.
pub(crate) fn install_terminal(slave: &OwnedFd) -> Result<(), StepError> {
    dup2_stdin(slave).doing("connect the standard input")?;
    dup2_stdout(slave).doing("connect the standard output")?;
    dup2_stderr(slave).doing("connect the standard error")
}

/// Makes the standard input the controlling terminal of the calling process, a session leader.
pub(crate) fn take_terminal() -> Result<(), StepError> {
    ioctl_tiocsctty(rustix::stdio::stdin()).doing("take the terminal as the controlling one")
}

fn open_null() -> Result<OwnedFd, StepError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    open("/dev/null", flags, Mode::empty()).doing("open /dev/null")
}

/// A pipe whose both ends belong to the process's user, who may want to open `/dev/stdout` anew.
fn owned_pipe(owner: u32) -> Result<(OwnedFd, OwnedFd), StepError> {
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
    if owner != 0 {
        fchown(&reading, Some(Uid::from_raw(owner)), None::<Gid>).doing("give a pipe its owner")?;
    }
    Ok((reading, writing))
}
