//! Carries bytes between a container's process and its streams, one thread per direction.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread,
};

use protocol::{ProcessSpec, StreamKind};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fcntl_setfl, fstat, open},
    io::Errno,
    net::{Shutdown, shutdown},
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
    process::ioctl_tiocsctty,
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use crate::{
    exchange::{Direction, Exchange, Place},
    step::{Doing, StepError},
    tty::Terminal,
};

/// How much a pipe of a process's output holds, in bytes: the more, the less often process and agent
/// wait for each other.
const OUTPUT_BYTES: usize = 256 << 10;
/// How much is read at once where the kernel does not carry it.
const BUFFER_BYTES: usize = 64 << 10;

/// The streams a process needs, and those of them the host has connected so far.
pub(crate) struct Streams {
    needed: &'static [StreamKind],
    connected: Vec<(StreamKind, OwnedFd)>,
}

impl Streams {
    /// The streams of a process.
    pub(crate) fn of(spec: &ProcessSpec) -> Self {
        let needed: &[StreamKind] = match (spec.terminal, spec.stdin) {
            (Some(_), _) => &[StreamKind::Terminal],
            (None, true) => &[StreamKind::Stdin, StreamKind::Stdout, StreamKind::Stderr],
            (None, false) => &[StreamKind::Stdout, StreamKind::Stderr],
        };
        Self { needed, connected: Vec::new() }
    }

    /// Those of a process that has none.
    pub(crate) fn none() -> Self {
        Self { needed: &[], connected: Vec::new() }
    }

    /// The one of a job about files.
    pub(crate) fn of_files() -> Self {
        Self { needed: &[StreamKind::Files], connected: Vec::new() }
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

    /// Those that are needed once more, when a process goes on in a copy of its machine.
    pub(crate) fn anew(needed: &'static [StreamKind]) -> Self {
        Self { needed, connected: Vec::new() }
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

/// The agent's side: a descriptor and the stream it belongs to.
#[derive(Default)]
pub(crate) struct Pumps {
    pumps: Vec<Pump>,
}

struct Pump {
    /// The agent's end of a pipe or of a terminal.
    end: OwnedFd,
    stream: OwnedFd,
    place: Place,
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
    Ok((Pipes { stdin, outputs: Some(Outputs { stdout, stderr }) }, Pumps { pumps }))
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
    Ok(Pumps { pumps })
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

impl Pumps {
    /// Whether there is nothing to carry.
    pub(crate) fn is_empty(&self) -> bool {
        self.pumps.is_empty()
    }

    /// Starts a thread for each direction, which takes another stream from `exchange` where the one that
    /// it has was another machine's. The descriptor returned hangs up when everything the process wrote has
    /// gone out and the streams have been shut down.
    pub(crate) fn start(self, exchange: &Arc<Exchange>) -> Result<OwnedFd, StepError> {
        const STACK_BYTES: usize = 64 << 10;
        let (drained, running) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let running = Arc::new(running);
        for pump in self.pumps {
            let (running, exchange) = (running.clone(), exchange.clone());
            exchange.enter(pump.place);
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || pump.run(running, &exchange))
                .doing("start a thread for a stream")?;
        }
        Ok(drained)
    }
}

impl Pump {
    /// Carries until either side ends. `running` is let go of as soon as all output is out.
    fn run(self, running: Arc<OwnedFd>, exchange: &Exchange) {
        let Self { end, stream, place } = self;
        let (mut end, mut stream) = (File::from(end), File::from(stream));
        if place.direction == Direction::ToProcess {
            drop(running);
            // However it ends, both are let go of: that ends the process's input, and tells the
            // host, if this was a pipe's stream, that nobody reads any more.
            carry_in(&mut stream, &mut end, |epoch| exchange.next(place, epoch));
            exchange.leave(place);
            return;
        }
        let next = |epoch| exchange.next(place, epoch);
        // A failure is an end like any other: the terminal was hung up (EIO), or the host has
        // closed the stream. The pipe goes first, so that a process still writing learns of it.
        if is_pipe(&end) {
            splice_out(&end, &mut stream, next);
        } else {
            carry_out(&mut end, &mut stream, next);
        }
        exchange.leave(place);
        drop(end);
        let _ = shutdown(stream.as_fd(), Shutdown::Write);
        drop(running);
        // A socket closed too early may take with it what the host has not read yet.
        let _ = io::copy(&mut stream, &mut io::sink());
    }
}

/// Carries what comes from a stream to its end. There is no buffer beyond one read: who reads slowly makes
/// the writer wait.
fn carry_in(
    stream: &mut File,
    end: &mut File,
    mut next: impl FnMut(u32) -> Option<(OwnedFd, u32)>,
) {
    let (mut buffer, mut epoch) = (vec![0; BUFFER_BYTES], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if end.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => match next(epoch) {
                Some((other, now)) => (*stream, epoch) = (other.into(), now),
                None => return,
            },
        }
    }
}

/// Carries what comes from a terminal to its end. What a stream that has broken did not take goes to the
/// next one.
fn carry_out(
    end: &mut File,
    stream: &mut File,
    mut next: impl FnMut(u32) -> Option<(OwnedFd, u32)>,
) {
    let (mut buffer, mut epoch) = (vec![0; BUFFER_BYTES], 0);
    loop {
        let mut rest = match end.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(count) if count > 0 => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => match next(epoch) {
                    Some((other, now)) => (*stream, epoch) = (other.into(), now),
                    None => return,
                },
            }
        }
    }
}

/// Lets the kernel carry a pipe's bytes to its end. What a stream that has broken did not take is still in
/// the pipe.
fn splice_out(end: &File, stream: &mut File, mut next: impl FnMut(u32) -> Option<(OwnedFd, u32)>) {
    let mut epoch = 0;
    while splice_all(end, stream).is_err() {
        match next(epoch) {
            Some((other, now)) => (*stream, epoch) = (other.into(), now),
            None => return,
        }
    }
}

fn is_pipe(file: &impl AsFd) -> bool {
    fstat(file).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}

/// Lets the kernel carry a pipe's bytes until its end, with a copy less. It keeps the pipe locked
/// meanwhile, and a process that waits for that lock cannot be killed: so the stream must not block, and
/// where the host takes no more, that is waited for here.
fn splice_all(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    fcntl_setfl(to, OFlags::NONBLOCK)?;
    let ended = loop {
        match splice(from, None, to, None, OUTPUT_BYTES, SpliceFlags::empty()) {
            Ok(0) => break Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(to, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    fcntl_setfl(to, OFlags::empty())?;
    Ok(ended?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_pipe_is_carried_whole_and_its_writer_is_not_kept_from_its_end() {
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (from, into) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let written = sent.clone();
        let writer = thread::spawn(move || File::from(into).write_all(&written));
        let carrier = thread::spawn(move || splice_all(&from, &near).map(|()| near));
        let mut received = vec![0; sent.len()];
        far.read_exact(&mut received).unwrap();
        writer.join().unwrap().unwrap();
        let near = carrier.join().unwrap().unwrap();
        assert!(received == sent);
        // It blocks again, as whoever reads its other direction expects.
        let reader = thread::spawn(move || (&near).read(&mut [0]));
        drop(far);
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    }

    #[test]
    fn what_a_broken_stream_did_not_take_goes_to_the_next() {
        let (near, far) = UnixStream::pair().unwrap();
        let (other, mut there) = UnixStream::pair().unwrap();
        let (from, into) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut into = File::from(into);
        let carrier = thread::spawn(move || {
            let (mut stream, mut left) = (File::from(OwnedFd::from(near)), Some(other.into()));
            splice_out(&from.into(), &mut stream, |epoch| Some((left.take()?, epoch + 1)));
        });
        drop(far);
        into.write_all(b"nobody took this").unwrap();
        let mut taken = [0; 16];
        there.read_exact(&mut taken).unwrap();
        assert_eq!(&taken, b"nobody took this");
        drop(into);
        carrier.join().unwrap();
        assert_eq!(there.read(&mut taken).unwrap(), 0);
    }

    #[test]
    fn input_goes_on_from_the_next_stream_and_ends_with_it() {
        let (mut far, other) = UnixStream::pair().unwrap();
        // Reads of it fail, as those of a stream that was reset do.
        let broken = File::options().write(true).open("/dev/null").unwrap();
        let (into, mut end) = UnixStream::pair().unwrap();
        far.write_all(b"input").unwrap();
        drop(far);
        let mut left = Some(other.into());
        let (mut stream, mut process) = (broken, File::from(OwnedFd::from(into)));
        carry_in(&mut stream, &mut process, |epoch| Some((left.take()?, epoch + 1)));
        drop(process);
        let mut came = String::new();
        end.read_to_string(&mut came).unwrap();
        assert_eq!(came, "input");
    }

    #[test]
    fn a_host_that_takes_nothing_does_not_keep_the_pipe_locked() {
        let (from, into) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        fcntl_setfl(&into, OFlags::NONBLOCK).unwrap();
        let carrier = thread::spawn(move || splice_all(&from, &near));
        // Until stream and pipe are full; this write would hang if the pipe were kept locked.
        let mut full = 0;
        while full < 1000 {
            match rustix::io::write(&into, &[0; 4096]) {
                Ok(_) => full = 0,
                Err(_) => full += 1,
            }
            thread::yield_now();
        }
        drop(far);
        assert!(carrier.join().unwrap().is_err());
    }
}
