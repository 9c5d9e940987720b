//! The person's side of a running container: terminal, streams and signals in, output and exit
//! status out. It may leave at any time; the container stays.

mod pump;
mod signals;
mod terminal;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use protocol::StreamKind;
use vmm::residence;

pub(crate) use self::terminal::is_raw;
pub use self::terminal::terminal_size;

use self::pump::{Input, Output};
use self::signals::{Duties, Signals};
use self::terminal::RawTerminal;
use crate::detach_keys::{DetachKeys, Watch};
use crate::error::Error;
use crate::link::{Failure, FromSupervisor, Link, ToSupervisor};
use crate::timings::{Clocks, Stopwatch};
use crate::voice::{pass_on, say};

/// Who is with a container when it starts or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attendance {
    /// Nobody: the command returns once the program runs.
    Away,
    /// A person who sees what it writes.
    Here(Presence),
}

/// How a person is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whether what they type is the program's.
    pub input: bool,
    /// Whether the signals they send are the program's.
    pub proxy_signals: bool,
    /// The keys that leave the container alone.
    pub detach_keys: DetachKeys,
}

/// What a session is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Whether the program has a terminal.
    pub(crate) terminal: bool,
    /// Whether the end of the person's output is the end of the program's.
    pub(crate) owns_output: bool,
    /// Whether the end of the person's input is the end of the program's.
    pub(crate) owns_input: bool,
}

/// How it was to be attached.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The code to exit with.
    pub(crate) code: u8,
    /// Whether the container has ended.
    pub(crate) has_ended: bool,
    /// When things happened.
    pub(crate) clocks: Clocks,
}

/// Stays with a container until it has ended, the person leaves, or, when nobody is there, its
/// program runs. The terminal is as it was before when this returns.
pub(crate) fn attach(
    link: Link,
    attendance: &Attendance,
    subject: Subject,
    stopwatch: Stopwatch,
) -> Result<Attached, Error> {
    let link = Arc::new(link);
    let presence = match attendance {
        Attendance::Away => None,
        Attendance::Here(presence) => Some(presence),
    };
    let is_typed_into = subject.terminal && presence.is_some_and(|presence| presence.input);
    // With nobody there, no thread is started: whoever starts several containers forks once more.
    let signals = match presence {
        None => None,
        Some(Presence { proxy_signals: proxies, .. }) => {
            let duties = Duties { has_terminal: is_typed_into, proxies: *proxies };
            Some(Signals::watch(Arc::clone(&link), duties)?)
        }
    };
    let session = Session {
        link: &link,
        presence,
        subject,
        is_typed_into,
        stopwatch,
        signals: signals.as_ref(),
        clocks: Arc::new(Clocks::default()),
        raw: None,
        outputs: Vec::new(),
    };
    session.follow()
}

/// How a session ends.
enum Ending {
    /// The container has ended.
    Exited(u8),
    /// There was no program, or there is none any more.
    Failed(Failure),
    /// The container goes on.
    Left,
    /// The supervisor does not do what it was asked for.
    Refused(String),
    /// The supervisor is gone without a word.
    Lost,
}

struct Session<'a> {
    link: &'a Arc<Link>,
    presence: Option<&'a Presence>,
    subject: Subject,
    is_typed_into: bool,
    stopwatch: Stopwatch,
    signals: Option<&'a Signals>,
    clocks: Arc<Clocks>,
    raw: Option<RawTerminal>,
    outputs: Vec<JoinHandle<()>>,
}

impl Session<'_> {
    fn follow(mut self) -> Result<Attached, Error> {
        let mut times = Clocks::default();
        let ending = self.listen(&mut times);
        drop(self.raw.take());
        times.first_byte = self.clocks.first_byte.clone();
        let (code, has_ended) = match (ending?, self.signals.and_then(Signals::gave_up)) {
            // It was given up by this very signal.
            (_, Some(code)) => (code, true),
            (Ending::Exited(code), None) => (code, true),
            (Ending::Left, None) => (0, false),
            (Ending::Failed(failure), None) => return Err(Error::Supervised(failure)),
            (Ending::Refused(reason), None) => return Err(Error::Denied(reason)),
            (Ending::Lost, None) => return Err(Error::SupervisorDied),
        };
        Ok(Attached { code, has_ended, clocks: times })
    }

    /// Listens until there is nothing more to hear.
    fn listen(&mut self, times: &mut Clocks) -> Result<Ending, Error> {
        let failed = |source| Error::System { action: "hear the container's supervisor", source };
        while let Some((message, streams)) = self.link.receive().map_err(failed)? {
            match message {
                FromSupervisor::Running(time) => times.running = Some(time),
                FromSupervisor::AgentReady(time) => times.ready = Some(time),
                FromSupervisor::Streams(kinds) => self.connect(&kinds, streams)?,
                FromSupervisor::Started => {
                    times.started = Some(self.stopwatch.elapsed());
                    match self.signals {
                        Some(signals) => signals.belong_to_the_program(),
                        None => return Ok(Ending::Left),
                    }
                    residence::give_back_text();
                }
                FromSupervisor::Exited(code) => {
                    self.drain();
                    return Ok(Ending::Exited(code));
                }
                FromSupervisor::Failed(failure) => {
                    self.drain();
                    return Ok(Ending::Failed(failure));
                }
                FromSupervisor::Detached => return Ok(Ending::Left),
                FromSupervisor::Console(bytes) => pass_on(&bytes),
                FromSupervisor::Trouble(message) => say("guest", message),
                FromSupervisor::Warning(message) => say("warning", message),
                FromSupervisor::Refused(reason) => return Ok(Ending::Refused(reason)),
                FromSupervisor::Hello { .. }
                | FromSupervisor::Done
                | FromSupervisor::Answer
                | FromSupervisor::Saved(_) => {}
            }
        }
        Ok(Ending::Lost)
    }

    /// Starts a thread for each stream: none waits for another, and each is held up by a slow
    /// reader at its end and by nothing else.
    fn connect(&mut self, kinds: &[StreamKind], streams: Vec<OwnedFd>) -> Result<(), Error> {
        let failed = |source| Error::System { action: "connect the program's streams", source };
        if self.is_typed_into {
            self.raw = Some(RawTerminal::enter().map_err(failed)?);
            self.signals.into_iter().for_each(Signals::send_window_size);
        }
        for (kind, stream) in kinds.iter().zip(streams) {
            let connected = match kind {
                StreamKind::Stdin => self.input(stream),
                StreamKind::Stdout | StreamKind::Terminal => {
                    pump::stdout().and_then(|to| self.output(*kind, stream, to))
                }
                StreamKind::Stderr => pump::stderr().and_then(|to| self.output(*kind, stream, to)),
                // No program has such a stream.
                StreamKind::Files => Ok(()),
            };
            connected.map_err(failed)?;
        }
        Ok(())
    }

    fn input(&self, stream: OwnedFd) -> std::io::Result<()> {
        let keys = self.presence.filter(|_| self.subject.terminal);
        let watch = keys.map(|presence| Watch::new(&presence.detach_keys));
        let (link, owns) = (Arc::clone(self.link), self.subject.owns_input);
        // Whoever types goes on until the supervisor is gone; it is heard of by the link.
        Input { stream, watch, owns }.start(move || drop(link.send(&ToSupervisor::Detach)))
    }

    fn output(
        &mut self,
        kind: StreamKind,
        stream: OwnedFd,
        to: std::fs::File,
    ) -> std::io::Result<()> {
        let (clocks, stopwatch) = (Arc::clone(&self.clocks), self.stopwatch);
        let first = move || {
            let _ = clocks.first_byte.set(stopwatch.elapsed());
        };
        let (link, owns) = (Arc::clone(self.link), self.subject.owns_output);
        let closed = move || {
            if owns {
                // A supervisor that is gone needs not be told.
                let _ = link.send(&ToSupervisor::Hangup(kind));
            }
        };
        self.outputs.push(Output { stream, to }.start(first, closed)?);
        Ok(())
    }

    /// The program has ended: what it wrote is passed on to its last byte.
    fn drain(&mut self) {
        for output in self.outputs.drain(..) {
            // A thread that panicked has said so; there is nothing more in it.
            let _ = output.join();
        }
    }
}
