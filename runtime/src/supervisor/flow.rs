//! One stream of the program, on its way to the log and to everybody who is attached.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use protocol::StreamKind;
use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{SpliceFlags, splice};

use super::clients::ClientId;
use super::fork::{Fork, Passed};
use super::outputs::{Log, SINK_BYTES, Tools};

/// How much is moved at once, in bytes: as much as a pipe takes. The machine sends packets of 64 KiB,
/// which gather while we are slower.
const PIECE_BYTES: usize = SINK_BYTES;

/// From how much at once on a program counts as one that writes fast, in bytes.
const FAST_BYTES: usize = 32 << 10;

/// One stream of the program.
pub(super) struct Flow {
    pub(super) kind: StreamKind,
    /// None once it has ended.
    source: Option<UnixStream>,
    /// What somebody has not taken yet.
    held: Vec<u8>,
    sinks: Vec<Sink>,
    /// Where the bytes of a fast program part that go to one sink and to the log; what it holds, neither
    /// has. It holds nothing when there is another number of sinks.
    fork: Option<Fork>,
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

impl Flow {
    /// Of a program that is about to begin.
    pub(super) fn new(kind: StreamKind, source: UnixStream) -> Self {
        Self { kind, source: Some(source), held: Vec::new(), sinks: Vec::new(), fork: None }
    }

    /// Lets somebody see what comes from now on.
    pub(super) fn attach(&mut self, client: ClientId, pipe: OwnedFd, log: &mut Log) {
        self.join(log);
        if self.source.is_some() {
            let taken = self.held.len();
            self.sinks.push(Sink { client, pipe: pipe.into(), taken, is_full: false });
        }
    }

    /// Forgets somebody who goes.
    pub(super) fn detach(&mut self, client: ClientId, log: &mut Log) {
        self.join(log);
        self.sinks.retain(|sink| sink.client != client);
        self.let_go();
    }

    /// Tells the program that nobody reads this any more.
    pub(super) fn hang_up(&mut self, log: &mut Log) {
        self.leave_all(log);
        if let Some(source) = &self.source {
            // A machine that has ended needs not be told.
            let _ = source.shutdown(Shutdown::Read);
        }
    }

    /// Leaves out everybody who has not taken what they were given.
    pub(super) fn drop_slow(&mut self, log: &mut Log) {
        self.join(log);
        let held = self.held.len();
        self.sinks.retain(|sink| sink.taken >= held && !sink.is_full);
        self.let_go();
    }

    /// Gives up on what has not come.
    pub(super) fn abandon(&mut self, log: &mut Log) {
        self.leave_all(log);
        self.source = None;
    }

    /// Whether all has come and gone.
    pub(super) fn is_drained(&self) -> bool {
        self.source.is_none() && self.held.is_empty()
    }

    /// What to wait for.
    pub(super) fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let full = self.is_full();
        let source = self.source.as_ref().filter(|_| self.held.is_empty() && !full);
        let source = source.map(|source| (source.as_fd(), PollFlags::IN));
        let is_slow = move |sink: &&Sink| full || sink.taken < self.held.len();
        let slow = self.sinks.iter().filter(is_slow);
        source.into_iter().chain(slow.map(|sink| (sink.pipe.as_fd(), PollFlags::OUT)))
    }

    /// Moves what can be moved.
    pub(super) fn serve(&mut self, log: &mut Log, tools: &mut Tools) {
        if !self.held.is_empty() {
            self.flush();
        } else if !log.is_kept() && self.sinks.len() == 1 {
            self.splice(tools);
        } else if self.fork.is_some() {
            self.pass(log, tools);
        } else {
            self.copy(log, tools);
        }
    }

    /// Nothing more comes.
    fn end(&mut self, log: &mut Log) {
        self.source = None;
        self.sinks.clear();
        self.fork = None;
        log.add(self.kind, &[]);
    }

    /// Nobody is to get anything more.
    fn leave_all(&mut self, log: &mut Log) {
        self.join(log);
        self.held = Vec::new();
        self.sinks.clear();
    }

    /// Lets the kernel move what has come to the only one who wants it.
    fn splice(&mut self, tools: &mut Tools) {
        let (Some(source), [sink]) = (&self.source, &mut self.sinks[..]) else { return };
        match sink.splice(source) {
            Spliced::Some(count) => return tools.haste.moved(count),
            Spliced::Nothing => return,
            Spliced::End => self.source = None,
            Spliced::Gone => {}
        }
        self.sinks.clear();
    }

    /// Reads what has come, gives it to everybody and writes it down.
    fn copy(&mut self, log: &mut Log, tools: &mut Tools) {
        let Tools { piece, haste } = tools;
        let Some(source) = &self.source else { return };
        self.sinks.iter_mut().for_each(|sink| sink.is_full = false);
        piece.clear();
        // What is not read into takes no memory.
        piece.reserve(PIECE_BYTES);
        match recv(source, spare_capacity(piece), RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // An error: the machine has ended, or the program was told that nobody reads.
            Ok((0, _)) | Err(_) => self.end(log),
            Ok((count, _)) => {
                haste.moved(count);
                self.give(piece);
                log.add(self.kind, piece);
                if count >= FAST_BYTES && self.sinks.len() == 1 && self.held.is_empty() {
                    // Without one, all is copied as before.
                    self.fork = Fork::new(PIECE_BYTES).ok();
                }
            }
        }
    }

    /// Lets the kernel give what has come to the only one who wants it, and writes the same down.
    fn pass(&mut self, log: &mut Log, tools: &mut Tools) {
        let Tools { piece, haste } = tools;
        let (Some(source), Some(fork), [sink]) =
            (&self.source, &mut self.fork, &mut self.sinks[..])
        else {
            return;
        };
        sink.is_full = false;
        if fork.is_empty() {
            match fork.fill(source, PIECE_BYTES) {
                Err(Errno::AGAIN | Errno::INTR) => return,
                Ok(0) | Err(_) => return self.end(log),
                Ok(count) => haste.moved(count),
            }
        }
        piece.resize(PIECE_BYTES, 0);
        let (count, passed) = fork.pass(&sink.pipe, piece);
        if count > 0 {
            log.add(self.kind, &piece[..count]);
        }
        match passed {
            Passed::All => {}
            Passed::Some => sink.is_full = true,
            Passed::None => self.leave_all(log),
        }
    }

    /// Goes on without a fork, since what it was there for changes.
    fn join(&mut self, log: &mut Log) {
        let Some(fork) = self.fork.take().filter(|fork| !fork.is_empty()) else { return };
        let held = fork.into_held();
        log.add(self.kind, &held);
        for sink in &mut self.sinks {
            (sink.taken, sink.is_full) = (0, false);
        }
        self.held = held;
    }

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
    pub(super) fn is_full(&self) -> bool {
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
                Spliced::Nothing
            }
            Ok(count) => Spliced::Some(count),
            Err(Errno::INTR) => Spliced::Nothing,
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

/// What came of it when the kernel was to move bytes.
enum Spliced {
    /// So many, and there may be more.
    Some(usize),
    /// There may be something later.
    Nothing,
    /// The stream has ended.
    End,
    /// Nobody reads any more.
    Gone,
}
