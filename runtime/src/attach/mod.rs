//! The person's side of a running container: terminal, streams and signals in, output and exit
//! status out. The streams come straight from the machine; the supervisor only hands them over.

mod pump;
mod signals;
mod terminal;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use protocol::StreamKind;
use vmm::residence;

pub(crate) use self::terminal::is_raw;
pub use self::terminal::terminal_size;

use self::pump::{Input, Output};
use self::signals::Signals;
use self::terminal::RawTerminal;
use crate::error::Error;
use crate::link::{Failure, FromSupervisor, Link, ToSupervisor};
use crate::spec::Stdio;
use crate::timings::{Clocks, Stopwatch};
use crate::voice::{pass_on, say};

/// How it was to be attached.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The code to exit with.
    pub(crate) code: u8,
    /// When things happened.
    pub(crate) clocks: Clocks,
}

/// Stays attached until the container is gone. The terminal is as it was before when this returns.
pub(crate) fn attach(link: Link, stdio: Stdio, stopwatch: Stopwatch) -> Result<Attached, Error> {
    let link = Arc::new(link);
    let signals = Signals::watch(Arc::clone(&link), stdio)?;
    let session = Session {
        link: &link,
        stdio,
        stopwatch,
        signals: &signals,
        clocks: Arc::new(Clocks::default()),
        raw: None,
        outputs: Vec::new(),
        ending: None,
    };
    session.follow()
}

struct Session<'a> {
    link: &'a Link,
    stdio: Stdio,
    stopwatch: Stopwatch,
    signals: &'a Signals,
    clocks: Arc<Clocks>,
    raw: Option<RawTerminal>,
    outputs: Vec<JoinHandle<()>>,
    ending: Option<Result<u8, Failure>>,
}

impl Session<'_> {
    fn follow(mut self) -> Result<Attached, Error> {
        let failed = |source| Error::System { action: "hear the container's supervisor", source };
        let mut times = Clocks::default();
        while let Some((message, streams)) = self.link.receive().map_err(failed)? {
            match message {
                FromSupervisor::Running(time) => times.running = Some(time),
                FromSupervisor::AgentReady(time) => times.ready = Some(time),
                FromSupervisor::Streams(kinds) => self.connect(&kinds, streams)?,
                FromSupervisor::Started => {
                    times.started = Some(self.stopwatch.elapsed());
                    self.signals.belong_to_the_program();
                    residence::give_back_text();
                }
                FromSupervisor::Exited(status) => self.drain(status.shell_code()),
                FromSupervisor::Failed(failure) => self.ending = Some(Err(failure)),
                FromSupervisor::Console(bytes) => pass_on(&bytes),
                FromSupervisor::Trouble(message) => say("guest", message),
                FromSupervisor::Warning(message) => say("warning", message),
            }
        }
        drop(self.raw.take());
        times.first_byte = self.clocks.first_byte.clone();
        match self.ending.or_else(|| self.signals.gave_up().map(Ok)) {
            Some(Ok(code)) => Ok(Attached { code, clocks: times }),
            Some(Err(failure)) => Err(Error::Supervised(failure)),
            None => Err(Error::SupervisorDied),
        }
    }

    /// Starts a thread for each stream: none waits for another, and each is held up by a slow
    /// reader at its end and by nothing else.
    fn connect(&mut self, kinds: &[StreamKind], streams: Vec<UnixStream>) -> Result<(), Error> {
        let failed = |source| Error::System { action: "connect the program's streams", source };
        if matches!(self.stdio, Stdio::Terminal(_)) {
            self.raw = Some(RawTerminal::enter().map_err(failed)?);
            self.signals.send_window_size();
        }
        let (clocks, stopwatch) = (&self.clocks, self.stopwatch);
        let mut output = |stream, to| -> std::io::Result<()> {
            let clocks = Arc::clone(clocks);
            let first = move || {
                let _ = clocks.first_byte.set(stopwatch.elapsed());
            };
            self.outputs.push(Output { stream, to }.start(first)?);
            Ok(())
        };
        for (kind, stream) in kinds.iter().zip(streams) {
            let connected = match kind {
                StreamKind::Stdin => Input { stream }.start(),
                StreamKind::Stdout => pump::stdout().and_then(|to| output(stream, to)),
                StreamKind::Stderr => pump::stderr().and_then(|to| output(stream, to)),
                StreamKind::Terminal => stream
                    .try_clone()
                    .and_then(|stream| Input { stream }.start())
                    .and_then(|()| pump::stdout())
                    .and_then(|to| output(stream, to)),
            };
            connected.map_err(failed)?;
        }
        Ok(())
    }

    /// The program has ended: what it wrote is passed on to its last byte before the machine ends.
    fn drain(&mut self, code: u8) {
        for output in self.outputs.drain(..) {
            // A thread that panicked has said so; there is nothing more in it.
            let _ = output.join();
        }
        self.ending = Some(Ok(code));
        // Where the supervisor is gone already, so is the machine.
        let _ = self.link.send(&ToSupervisor::Drained);
    }
}
