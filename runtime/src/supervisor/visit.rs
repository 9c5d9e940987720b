//! A machine that has a container's disks and runs nothing of it: the way to the files of a container
//! that does not run. What a guest has written is read by a guest.
//!
//! It is a child of the process that wants the files, and ends with that, however it ends.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use protocol::{ContainerSpec, FileJob, FromAgent, ProcessId, StreamKind, ToAgent};
use rustix::event::PollFlags;
use vmm::event::Event;

use super::agent::{Agent, has_said};
use super::console::ConsoleTail;
use super::conversation::wall_clock;
use super::error::Error;
use super::knock::{ANSWER_TIMEOUT, Door, no_answer};
use super::machine::{MachineParts, MachineProcess, bind};
use super::unattended::speak_before;
use crate::link::Failure;

/// How long a guest may take to write down what it holds.
const POWER_OFF: Duration = Duration::from_secs(10);
/// How long the machine of an agent that has hung up may take to tell its end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Such a machine. Dropping it kills it, as a power cut would.
pub(crate) struct Visit {
    machine: MachineProcess,
    agent: Agent,
    agent_has_spoken: bool,
    /// The container's folder, where the machine's socket lies.
    folder: File,
    console: ConsoleTail,
    /// The last number that was given to a job.
    last: u32,
}

impl Visit {
    /// Starts the machine and lays out the container's files. What fails before a copy's agent has
    /// answered is the template's fault.
    ///
    /// # Errors
    /// When the machine or the agent in it does not get ready in time.
    pub(crate) fn begin(
        parts: MachineParts,
        folder: File,
        mut container: ContainerSpec,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let is_copy = matches!(parts.start, vmm::config::Start::Restore { .. });
        let deadline = Instant::now() + patience;
        let mut console = ConsoleTail::default();
        let ready = bind(&folder)
            .and_then(|listener| MachineProcess::start(parts, listener, || {}))
            .and_then(|mut machine| {
                await_agent(&mut machine, &mut console, deadline, patience)?;
                Ok(machine)
            })
            .map_err(|error| if is_copy { Error::Template(Box::new(error)) } else { error });
        let machine = ready.map_err(|error| error.into_failure(console.text()))?;
        container.wall_clock = wall_clock();
        let called = Agent::call(&Door::new(&folder)).and_then(|mut agent| {
            agent.tell(&ToAgent::Open(Box::new(container)))?;
            Ok(agent)
        });
        let agent = called.map_err(|error| error.into_failure(console.text()))?;
        let mut visit = Self { machine, agent, agent_has_spoken: false, folder, console, last: 0 };
        match visit.await_opened(deadline, patience) {
            Ok(()) => Ok(visit),
            Err(error) if is_copy && !visit.agent_has_spoken => {
                Err(Error::Template(Box::new(error)).into_failure(visit.console.text()))
            }
            Err(error) => Err(error.into_failure(visit.console.text())),
        }
    }

    /// Begins with a job; its stream.
    ///
    /// # Errors
    /// When the agent cannot be reached.
    pub(crate) fn job(&mut self, job: &FileJob) -> Result<UnixStream, Failure> {
        self.last += 1;
        let id = ProcessId(self.last);
        let asked = self.agent.tell(&ToAgent::Files { id, job: Box::new(job.clone()) });
        let stream = asked.and_then(|()| self.stream(id));
        stream.map_err(|error| error.into_failure(self.console.text()))
    }

    /// The stream of a job.
    fn stream(&self, id: ProcessId) -> Result<UnixStream, Error> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut opening = Door::new(&self.folder).streams(id, &[StreamKind::Files])?;
        while !opening.hear()? {
            let sources: Vec<_> = opening.sources().map(|source| (source, PollFlags::IN)).collect();
            if !speak_before(&sources, deadline)? {
                return Err(no_answer());
            }
        }
        let (_, stream) = opening.finish().pop().expect("as many as were asked for");
        Ok(stream)
    }

    /// Lets the guest write down what it holds, and ends its machine.
    ///
    /// # Errors
    /// When it has not done so in time, or does not end well.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let ended = self.agent.tell(&ToAgent::PowerOff).and_then(|()| self.await_settled());
        ended.map_err(|error| error.into_failure(self.console.text()))
    }

    fn await_settled(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + POWER_OFF;
        loop {
            let sources = [self.agent.control(), (self.machine.events(), PollFlags::IN)];
            if !speak_before(&sources, deadline)? {
                return Err(Error::AgentGone);
            }
            match self.agent.listen()? {
                Some(messages) if messages.contains(&FromAgent::Settled) => return Ok(()),
                Some(_) => {}
                None => return self.await_farewell(),
            }
            if speak_before(&[(self.machine.events(), PollFlags::IN)], Instant::now())? {
                hear(&mut self.machine, &mut self.console)?;
            }
        }
    }

    /// What the machine of an agent that has hung up has to say about that.
    fn await_farewell(&mut self) -> Result<(), Error> {
        await_end(&mut self.machine, &mut self.console, Instant::now() + FAREWELL)
    }

    fn await_opened(&mut self, deadline: Instant, patience: Duration) -> Result<(), Error> {
        loop {
            let sources = [self.agent.control(), (self.machine.events(), PollFlags::IN)];
            if !speak_before(&sources, deadline)? {
                return Err(Error::NotReady { seconds: patience.as_secs() });
            }
            let Some(messages) = self.agent.listen()? else {
                self.await_farewell()?;
                return Err(Error::AgentGone);
            };
            self.agent_has_spoken |= !messages.is_empty();
            if has_said(messages, &FromAgent::Opened)? {
                return Ok(());
            }
            if speak_before(&[(self.machine.events(), PollFlags::IN)], Instant::now())? {
                hear(&mut self.machine, &mut self.console)?;
            }
        }
    }
}

fn await_agent(
    machine: &mut MachineProcess,
    console: &mut ConsoleTail,
    deadline: Instant,
    patience: Duration,
) -> Result<(), Error> {
    while speak_before(&[(machine.events(), PollFlags::IN)], deadline)? {
        if hear(machine, console)? == Heard::Ready {
            return Ok(());
        }
    }
    Err(Error::NotReady { seconds: patience.as_secs() })
}

fn await_end(
    machine: &mut MachineProcess,
    console: &mut ConsoleTail,
    deadline: Instant,
) -> Result<(), Error> {
    while speak_before(&[(machine.events(), PollFlags::IN)], deadline)? {
        match machine.next_event()? {
            Event::Ended(vmm::exit::Exit::PowerOff) => return Ok(()),
            Event::Ended(exit) => return Err(Error::from_exit(exit)),
            Event::Console(bytes) => console.add(&bytes),
            _ => {}
        }
    }
    Err(Error::AgentGone)
}

/// What a machine has said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Ready,
    Other,
}

fn hear(machine: &mut MachineProcess, console: &mut ConsoleTail) -> Result<Heard, Error> {
    match machine.next_event()? {
        Event::AgentReady => Ok(Heard::Ready),
        Event::Ended(exit) => Err(Error::from_exit(exit)),
        Event::Console(bytes) => {
            console.add(&bytes);
            Ok(Heard::Other)
        }
        Event::Running
        | Event::Saved
        | Event::NotSaved(_)
        | Event::Interface { .. }
        | Event::Live(_) => Ok(Heard::Other),
    }
}
