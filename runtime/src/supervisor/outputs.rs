//! What the program writes, on its way from the machine to the log and to everybody who is attached.
//!
//! Nothing is lost and little is held: a stream is read only when all who are attached have taken
//! what came before, so that a slow one makes the program wait, as a slow terminal would. Somebody
//! who is gone is left out from then on.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use protocol::StreamKind;
use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::clients::ClientId;
use crate::logs::{LogWriter, Stream};

/// How much is moved at once, in bytes: as much as a pipe takes. The machine sends packets of 64 KiB,
/// which gather while we are slower.
const PIECE_BYTES: usize = SINK_BYTES;

/// How much the pipe of somebody who is attached holds, in bytes: the more, the less often they and
/// we are woken.
const SINK_BYTES: usize = 256 << 10;

/// All output of the program.
pub(super) struct Outputs {
    flows: Vec<Flow>,
    log: Option<LogWriter>,
    /// Why the log is not whole, once it is not.
    log_error: Option<io::Error>,
    piece: Vec<u8>,
}

/// One stream of the program.
struct Flow {
    kind: StreamKind,
    /// None once it has ended.
    source: Option<UnixStream>,
    /// What somebody has not taken yet.
    held: Vec<u8>,
    sinks: Vec<Sink>,
}

/// Somebody who is attached.
struct Sink {
    client: ClientId,
    pipe: File,
    /// How much they have taken of what is held.
    taken: usize,
    /// Their pipe took no more of what the kernel moves.
    is_full: bool,
}

impl Outputs {
    /// Of a program that has not begun.
    pub(super) fn new(log: Option<LogWriter>) -> Self {
        Self { flows: Vec::new(), log, log_error: None, piece: Vec::new() }
    }

    /// The streams of the program, which is about to begin.
    pub(super) fn connect(&mut self, kind: StreamKind, source: UnixStream) {
        let source = Some(source);
        self.flows.push(Flow { kind, source, held: Vec::new(), sinks: Vec::new() });
    }

    /// Lets somebody see what is written from now on: a pipe for each stream.
    pub(super) fn attach(&mut self, client: ClientId) -> io::Result<Vec<(StreamKind, OwnedFd)>> {
        let mut theirs = Vec::new();
        for flow in &mut self.flows {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setfl(&writing, OFlags::NONBLOCK)?;
            // As it is, where this user has too many of them.
            let _ = fcntl_setpipe_size(&writing, SINK_BYTES);
            if flow.source.is_some() {
                let taken = flow.held.len();
                flow.sinks.push(Sink { client, pipe: writing.into(), taken, is_full: false });
            }
            theirs.push((flow.kind, reading));
        }
        Ok(theirs)
    }

    /// Forgets somebody who goes.
    pub(super) fn detach(&mut self, client: ClientId) {
        for flow in &mut self.flows {
            flow.sinks.retain(|sink| sink.client != client);
            flow.let_go();
        }
    }

    /// Tells the program that nobody reads a stream any more.
    pub(super) fn hang_up(&mut self, kind: StreamKind) {
        for flow in self.flows.iter_mut().filter(|flow| flow.kind == kind) {
            if let Some(source) = &flow.source {
                // A machine that has ended needs not be told.
                let _ = source.shutdown(Shutdown::Read);
            }
            flow.held.clear();
            flow.sinks.clear();
        }
    }

    /// Leaves out everybody who has not taken what they were given.
    pub(super) fn drop_slow(&mut self) {
        for flow in &mut self.flows {
            let held = flow.held.len();
            flow.sinks.retain(|sink| sink.taken >= held && !sink.is_full);
            flow.let_go();
        }
    }

    /// Gives up on what has not come: the machine is gone, or as good as gone.
    pub(super) fn abandon(&mut self) {
        for flow in &mut self.flows {
            flow.source = None;
            flow.held = Vec::new();
            flow.sinks.clear();
        }
    }

    /// Whether all has come and gone.
    pub(super) fn are_drained(&self) -> bool {
        self.flows.iter().all(|flow| flow.source.is_none() && flow.held.is_empty())
    }

    /// What to wait for, and which stream it is of.
    pub(super) fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags, usize)> {
        self.flows.iter().enumerate().flat_map(|(at, flow)| {
            let full = flow.is_full();
            let source = flow.source.as_ref().filter(|_| flow.held.is_empty() && !full);
            let source = source.map(|source| (source.as_fd(), PollFlags::IN, at));
            let is_slow = move |sink: &&Sink| full || sink.taken < flow.held.len();
            let slow = flow.sinks.iter().filter(is_slow);
            source.into_iter().chain(slow.map(move |sink| (sink.pipe.as_fd(), PollFlags::OUT, at)))
        })
    }

    /// Moves what can be moved of the stream at this place; the words for a log that has just failed.
    pub(super) fn serve(&mut self, at: usize) -> Option<String> {
        let flow = self.flows.get_mut(at)?;
        if !flow.held.is_empty() {
            flow.flush();
            return None;
        }
        let source = flow.source.as_ref()?;
        if let (None, [sink]) = (&self.log, &mut flow.sinks[..]) {
            match sink.splice(source) {
                Spliced::Some => return None,
                Spliced::End => flow.source = None,
                Spliced::Gone => {}
            }
            flow.sinks.clear();
            return None;
        }
        flow.sinks.iter_mut().for_each(|sink| sink.is_full = false);
        self.piece.clear();
        // What is not read into takes no memory.
        self.piece.reserve(PIECE_BYTES);
        match recv(source, spare_capacity(&mut self.piece), RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => return None,
            // An error: the machine has ended, or the program was told that nobody reads.
            Ok((0, _)) | Err(_) => {
                flow.source = None;
                flow.sinks.clear();
            }
            Ok(_) => flow.give(&self.piece),
        }
        let stream = stream(flow.kind);
        self.write_log(stream)
    }

    /// Writes the piece down, or the end if it is empty.
    fn write_log(&mut self, stream: Stream) -> Option<String> {
        let log = self.log.as_mut()?;
        let written = match &self.piece[..] {
            [] => log.finish(stream),
            piece => log.add(stream, piece),
        };
        match written {
            Err(error) if self.log_error.is_none() => {
                self.log_error = Some(error);
                self.log_trouble()
            }
            _ => None,
        }
    }

    /// What whoever comes later is to know about the log.
    pub(super) fn log_trouble(&self) -> Option<String> {
        let error = self.log_error.as_ref()?;
        Some(format!("the container's log is not whole, it could not be written: {error}"))
    }
}

/// What came of it when the kernel was to move bytes.
enum Spliced {
    /// There may be more.
    Some,
    /// The stream has ended.
    End,
    /// Nobody reads any more.
    Gone,
}

impl Flow {
    /// Gives everybody what has just come, and holds what somebody did not take.
    fn give(&mut self, bytes: &[u8]) {
        for sink in &mut self.sinks {
            sink.taken = 0;
        }
        self.sinks.retain_mut(|sink| sink.take(bytes));
        let least = self.sinks.iter().map(|sink| sink.taken).min().unwrap_or(bytes.len());
        if least < bytes.len() {
            self.held.extend_from_slice(&bytes[least..]);
            self.sinks.iter_mut().for_each(|sink| sink.taken -= least);
        }
    }

    /// Whether there is no room for what the kernel is to move.
    fn is_full(&self) -> bool {
        !self.sinks.is_empty() && self.sinks.iter().all(|sink| sink.is_full)
    }

    /// Gives the slow ones more of what is held.
    fn flush(&mut self) {
        let Self { held, sinks, .. } = self;
        sinks.retain_mut(|sink| sink.take(held));
        self.let_go();
    }

    /// Forgets what is held once everybody has it.
    fn let_go(&mut self) {
        if self.sinks.iter().all(|sink| sink.taken >= self.held.len()) {
            // An idle container holds no memory for its output.
            self.held = Vec::new();
            self.sinks.iter_mut().for_each(|sink| sink.taken = 0);
            if self.source.is_none() {
                self.sinks.clear();
            }
        }
    }
}

impl Sink {
    /// Lets the kernel move what there is room for.
    fn splice(&mut self, source: &UnixStream) -> Spliced {
        self.is_full = false;
        match splice(source, None, &self.pipe, None, SINK_BYTES, SpliceFlags::NONBLOCK) {
            Ok(0) => Spliced::End,
            // The source was ready, or the next look at the pipe tells that it is not full.
            Err(Errno::AGAIN) => {
                self.is_full = true;
                Spliced::Some
            }
            Ok(_) | Err(Errno::INTR) => Spliced::Some,
            Err(Errno::PIPE) => Spliced::Gone,
            // The machine has ended, or the program was told that nobody reads.
            Err(_) => Spliced::End,
        }
    }

    /// Takes what there is room for; whether they are still there.
    fn take(&mut self, bytes: &[u8]) -> bool {
        while self.taken < bytes.len() {
            match self.pipe.write(&bytes[self.taken..]) {
                Ok(0) => return false,
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

fn stream(kind: StreamKind) -> Stream {
    match kind {
        StreamKind::Stderr => Stream::Stderr,
        _ => Stream::Stdout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Serves until there is nothing to do at once.
    fn serve_all(outputs: &mut Outputs) {
        use rustix::event::{PollFd, Timespec, poll};
        loop {
            let ready = {
                let sources: Vec<_> = outputs.sources().collect();
                let mut polled: Vec<_> = sources
                    .iter()
                    .map(|(fd, flags, _)| PollFd::from_borrowed_fd(*fd, *flags))
                    .collect();
                poll(&mut polled, Some(&Timespec::default())).unwrap();
                let ready = polled.iter().position(|one| !one.revents().is_empty());
                ready.map(|at| sources[at].2)
            };
            match ready {
                Some(at) => drop(outputs.serve(at)),
                None => return,
            }
        }
    }

    fn one_stream() -> (UnixStream, Outputs) {
        let (program, ours) = UnixStream::pair().unwrap();
        let mut outputs = Outputs::new(None);
        outputs.connect(StreamKind::Stdout, ours);
        (program, outputs)
    }

    fn attach(outputs: &mut Outputs, client: ClientId) -> File {
        let (_, pipe) = outputs.attach(client).unwrap().pop().unwrap();
        pipe.into()
    }

    #[test]
    fn everybody_sees_all_that_comes_after_they_have() {
        let (mut program, mut outputs) = one_stream();
        program.write_all(b"early ").unwrap();
        serve_all(&mut outputs);
        let mut first = attach(&mut outputs, 1);
        program.write_all(b"both ").unwrap();
        serve_all(&mut outputs);
        let mut second = attach(&mut outputs, 2);
        program.write_all(b"all").unwrap();
        drop(program);
        serve_all(&mut outputs);
        assert!(outputs.are_drained());
        let mut seen = [String::new(), String::new()];
        first.read_to_string(&mut seen[0]).unwrap();
        second.read_to_string(&mut seen[1]).unwrap();
        assert_eq!(seen, ["both all", "all"]);
    }

    #[test]
    fn a_slow_one_holds_the_program_back_and_one_who_leaves_does_not() {
        let (program, mut outputs) = one_stream();
        program.set_nonblocking(true).unwrap();
        let mut slow = attach(&mut outputs, 1);
        let fast = attach(&mut outputs, 2);
        let fast = std::thread::spawn(move || std::io::copy(&mut &fast, &mut std::io::sink()));
        let piece = [7; 4096];
        let mut written = 0;
        for _ in 0..1000 {
            written += (&program).write(&piece).unwrap_or(0);
            serve_all(&mut outputs);
        }
        assert!(written < 1 << 20, "{written} bytes for nobody");
        assert!(outputs.flows[0].held.len() <= PIECE_BYTES);
        // Nothing here blocks: the fast one may be slow to be scheduled.
        fcntl_setfl(&slow, OFlags::NONBLOCK).unwrap();
        let mut taken = 0;
        while taken < 160 << 10 {
            taken += slow.read(&mut [0; 4096]).unwrap_or(0);
            serve_all(&mut outputs);
        }
        // There is room again.
        while (&program).write(&piece).is_err() {
            serve_all(&mut outputs);
        }
        drop(slow);
        while written < 1 << 20 {
            written += (&program).write(&piece).unwrap_or(0);
            serve_all(&mut outputs);
        }
        drop(program);
        // The fast one may be slow to take the last of it.
        while !outputs.are_drained() {
            serve_all(&mut outputs);
        }
        fast.join().unwrap().unwrap();
    }

    #[test]
    fn a_program_is_told_that_nobody_reads() {
        let (mut program, mut outputs) = one_stream();
        let _client = attach(&mut outputs, 1);
        outputs.hang_up(StreamKind::Stdout);
        serve_all(&mut outputs);
        assert!(program.write_all(b"x").is_err());
        assert!(outputs.are_drained());
    }

    #[test]
    fn slow_ones_can_be_left_out() {
        let (mut program, mut outputs) = one_stream();
        let _slow = attach(&mut outputs, 1);
        let writer = std::thread::spawn(move || program.write_all(&vec![0; 1 << 20]));
        while !outputs.flows[0].is_full() {
            serve_all(&mut outputs);
        }
        outputs.drop_slow();
        while !outputs.are_drained() {
            serve_all(&mut outputs);
        }
        writer.join().unwrap().unwrap();
    }
}
