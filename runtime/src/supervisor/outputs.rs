//! What the program writes, on its way from the machine to the log and to everybody who is attached.
//!
//! Nothing is lost and little is held: a stream is read only when all who are attached have taken
//! what came before, so that a slow one makes the program wait, as a slow terminal would. Somebody
//! who is gone is left out from then on.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use protocol::StreamKind;
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use vmm::haste::Haste;

use super::clients::ClientId;
use super::flow::Flow;
use crate::logs::{LogWriter, Stream};

/// How much the pipe of somebody who is attached holds, in bytes: the more, the less often they and
/// we are woken.
pub(super) const SINK_BYTES: usize = 256 << 10;

/// All output of the program.
pub(super) struct Outputs {
    flows: Vec<Flow>,
    log: Log,
    tools: Tools,
}

/// What all streams are moved with.
#[derive(Default)]
pub(super) struct Tools {
    /// Memory for what is moved.
    pub(super) piece: Vec<u8>,
    pub(super) haste: Haste,
}

/// The log, if there is one.
pub(super) struct Log {
    writer: Option<LogWriter>,
    /// Why it is not whole, once it is not.
    error: Option<io::Error>,
    /// Nobody has been told of that yet.
    is_news: bool,
}

impl Outputs {
    /// Of a program that has not begun.
    pub(super) fn new(log: Option<LogWriter>) -> Self {
        let log = Log { writer: log, error: None, is_news: false };
        Self { flows: Vec::new(), log, tools: Tools::default() }
    }

    /// The streams of the program, which is about to begin.
    pub(super) fn connect(&mut self, kind: StreamKind, source: UnixStream) {
        self.flows.push(Flow::new(kind, source));
    }

    /// Lets somebody see what is written from now on: a pipe for each stream.
    pub(super) fn attach(&mut self, client: ClientId) -> io::Result<Vec<(StreamKind, OwnedFd)>> {
        let mut theirs = Vec::new();
        for flow in &mut self.flows {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setfl(&writing, OFlags::NONBLOCK)?;
            // As it is, where this user has too many of them.
            let _ = fcntl_setpipe_size(&writing, SINK_BYTES);
            flow.attach(client, writing, &mut self.log);
            theirs.push((flow.kind, reading));
        }
        Ok(theirs)
    }

    /// Forgets somebody who goes.
    pub(super) fn detach(&mut self, client: ClientId) {
        self.flows.iter_mut().for_each(|flow| flow.detach(client, &mut self.log));
    }

    /// Tells the program that nobody reads a stream any more.
    pub(super) fn hang_up(&mut self, kind: StreamKind) {
        for flow in self.flows.iter_mut().filter(|flow| flow.kind == kind) {
            flow.hang_up(&mut self.log);
        }
    }

    /// Leaves out everybody who has not taken what they were given.
    pub(super) fn drop_slow(&mut self) {
        self.flows.iter_mut().for_each(|flow| flow.drop_slow(&mut self.log));
    }

    /// Gives up on what has not come: the machine is gone, or as good as gone.
    pub(super) fn abandon(&mut self) {
        self.flows.iter_mut().for_each(|flow| flow.abandon(&mut self.log));
        self.log.show();
    }

    /// Whether all has come and gone.
    pub(super) fn are_drained(&self) -> bool {
        self.flows.iter().all(Flow::is_drained)
    }

    /// What to wait for, and which stream it is of.
    pub(super) fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags, usize)> {
        let flows = self.flows.iter().enumerate();
        flows.flat_map(|(at, flow)| flow.sources().map(move |(source, flags)| (source, flags, at)))
    }

    /// Moves what can be moved of the stream at this place; the words for a log that has just failed.
    pub(super) fn serve(&mut self, at: usize) -> Option<String> {
        self.flows.get_mut(at)?.serve(&mut self.log, &mut self.tools);
        self.log.news()
    }

    /// Whether there is something in the log that nobody can read yet.
    pub(super) fn hide_lines(&self) -> bool {
        self.log.writer.as_ref().is_some_and(LogWriter::hides_lines)
    }

    /// Shows all that is in the log; the words for one that has just failed.
    pub(super) fn show_log(&mut self) -> Option<String> {
        self.log.show();
        self.log.news()
    }

    /// What whoever comes later is to know about the log.
    pub(super) fn log_trouble(&self) -> Option<String> {
        self.log.trouble()
    }
}

impl Log {
    /// Whether there is one.
    pub(super) fn is_kept(&self) -> bool {
        self.writer.is_some()
    }

    /// Writes a piece of a stream down, or its end if it is empty.
    pub(super) fn add(&mut self, kind: StreamKind, piece: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        let written = match piece {
            [] => writer.finish(stream(kind)),
            piece => writer.add(stream(kind), piece),
        };
        self.note(written);
    }

    fn show(&mut self) {
        let shown = self.writer.as_mut().map_or(Ok(()), LogWriter::show);
        self.note(shown);
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && self.error.is_none()
        {
            self.error = Some(error);
            self.is_news = true;
        }
    }

    /// What is wrong with it, once.
    fn news(&mut self) -> Option<String> {
        std::mem::take(&mut self.is_news).then(|| self.trouble()).flatten()
    }

    fn trouble(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        Some(format!("the container's log is not whole, it could not be written: {error}"))
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
    use crate::keeping::LogConfig;
    use crate::logs::{Entry, LogQuery, Reader};
    use std::fs::File;
    use std::io::{Read, Write};
    use std::path::Path;
    use std::thread;

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
        let fast = thread::spawn(move || std::io::copy(&mut &fast, &mut std::io::sink()));
        let piece = [7; 4096];
        let mut written = 0;
        for _ in 0..1000 {
            written += (&program).write(&piece).unwrap_or(0);
            serve_all(&mut outputs);
        }
        assert!(written < 1 << 20, "{written} bytes for nobody");
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
        let writer = thread::spawn(move || program.write_all(&vec![0; 1 << 20]));
        while !outputs.flows[0].is_full() {
            serve_all(&mut outputs);
        }
        outputs.drop_slow();
        while !outputs.are_drained() {
            serve_all(&mut outputs);
        }
        writer.join().unwrap().unwrap();
    }

    /// A program that writes lines, of which the first have come fast: its text, and somebody who reads
    /// nothing of it yet, while what has come waits for them.
    fn a_fast_one(log: &Path) -> (String, Outputs, File, thread::JoinHandle<io::Result<()>>) {
        let text: String = (0..300_000).map(|number| format!("{number}\n")).collect();
        let config = LogConfig { max_bytes: 1 << 30, ..LogConfig::default() };
        let (mut program, ours) = UnixStream::pair().unwrap();
        let mut outputs = Outputs::new(Some(LogWriter::new(log.to_owned(), config)));
        outputs.connect(StreamKind::Stdout, ours);
        let first = attach(&mut outputs, 1);
        let (begin, rest) = text.as_bytes().split_at(64 << 10);
        program.write_all(begin).unwrap();
        serve_all(&mut outputs);
        let rest = rest.to_owned();
        let writer = thread::spawn(move || program.write_all(&rest));
        while !outputs.flows[0].is_full() {
            serve_all(&mut outputs);
        }
        (text, outputs, first, writer)
    }

    fn finish(mut outputs: Outputs, writer: thread::JoinHandle<io::Result<()>>) {
        while !outputs.are_drained() {
            serve_all(&mut outputs);
        }
        writer.join().unwrap().unwrap();
    }

    fn read_in_background(mut pipe: File) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text
        })
    }

    fn text_of(log: &Path) -> String {
        let mut text = String::new();
        let mut take = |entry: &Entry<'_>| {
            text.push_str(&entry.log);
            Ok(())
        };
        Reader::open(log.to_owned(), LogQuery::default()).read(&mut take).unwrap();
        text
    }

    #[test]
    fn what_somebody_sees_is_in_the_log_too_though_another_one_comes() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        for another in [false, true] {
            let (text, mut outputs, first, writer) = a_fast_one(&log);
            let second = another.then(|| read_in_background(attach(&mut outputs, 2)));
            let first = read_in_background(first);
            finish(outputs, writer);
            assert!(first.join().unwrap() == text);
            if let Some(second) = second {
                let seen = second.join().unwrap();
                assert!(!seen.is_empty() && seen.len() < text.len() && text.ends_with(&seen));
            }
            assert!(text_of(&log) == text);
            std::fs::remove_file(&log).unwrap();
        }
    }

    #[test]
    fn the_log_is_whole_though_those_who_are_attached_go() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let ways: [fn(&mut Outputs, File); 4] = [
            |outputs, _| outputs.detach(1),
            |outputs, _| outputs.drop_slow(),
            |_, pipe| drop(pipe),
            |outputs, pipe| {
                outputs.attach(2).unwrap();
                outputs.detach(2);
                drop(pipe);
            },
        ];
        for leave in ways {
            let (text, mut outputs, pipe, writer) = a_fast_one(&log);
            leave(&mut outputs, pipe);
            finish(outputs, writer);
            assert!(text_of(&log) == text);
            std::fs::remove_file(&log).unwrap();
        }
    }

    /// This thread's scheduling policy, the 41st field of proc_pid_stat(5).
    fn policy() -> u32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(38).unwrap().parse().unwrap()
    }

    #[test]
    fn who_carries_much_is_in_no_hurry_until_it_is_little() {
        const SCHED_OTHER: u32 = 0;
        const SCHED_BATCH: u32 = 3;
        let folder = tempfile::tempdir().unwrap();
        let log = LogWriter::new(folder.path().join("log"), LogConfig::default());
        for log in [None, Some(log)] {
            let (mut program, ours) = UnixStream::pair().unwrap();
            let mut outputs = Outputs::new(log);
            outputs.connect(StreamKind::Stdout, ours);
            let _client = attach(&mut outputs, 1);
            for (bytes, expected) in [(64 << 10, SCHED_BATCH), (1, SCHED_OTHER), (1, SCHED_OTHER)] {
                program.write_all(&vec![b'\n'; bytes]).unwrap();
                serve_all(&mut outputs);
                assert_eq!(policy(), expected, "{bytes}");
            }
            program.write_all(&[b'\n'; 64 << 10]).unwrap();
            serve_all(&mut outputs);
            assert_eq!(policy(), SCHED_BATCH);
            drop(outputs);
            assert_eq!(policy(), SCHED_OTHER);
        }
    }
}
