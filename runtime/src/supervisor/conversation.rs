//! What a supervisor and the agent say to each other: the greeting, and what follows from each of the
//! agent's words.

use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use protocol::{
    Adoption, ContainerSpec, FromAgent, OutOfMemory, ProcessId, ProcessSpec, StreamKind, ToAgent,
    User, WallClock,
};

use super::agent::{Agent, streams_of};
use super::alarms::Alarm;
use super::answers::For;
use super::clients::STARTER;
use super::console;
use super::error::Error;
use super::knock::Door;
use super::serve::{Stage, Supervisor};
use crate::containers::Record;
use crate::link::FromSupervisor;
use crate::network::files::hosts;

impl Supervisor<'_> {
    /// The agent listens: it is told what to run, and its streams are knocked for.
    pub(super) fn greet_agent(&mut self) -> Result<(), Error> {
        if self.stage != Stage::Booting || self.agent.is_some() {
            return Ok(());
        }
        self.clients.tell_all(&FromSupervisor::AgentReady(self.parts.stopwatch.elapsed()));
        self.record.container.wall_clock = wall_clock();
        let mut container = self.record.container.clone();
        let devices = self.machine.devices().iter().copied();
        container.networks = devices.zip(self.parts.interfaces.iter().copied()).collect();
        container.etc.hosts = hosts(&container);
        let kinds = streams_of(&container.process);
        let mut agent = Agent::call(&Door::new(&self.home.folder))?;
        agent.tell(&if self.parts.adopts {
            ToAgent::Adopt(Box::new(adoption(container, self.record)))
        } else {
            ToAgent::Run(Box::new(container))
        })?;
        for message in self.unsaid.drain(..) {
            agent.tell(&message)?;
        }
        self.agent = Some(agent);
        self.knock_for(For::Container, ProcessId::OWN, &kinds)
    }

    /// The guest has opened the program's streams, so that it can begin.
    pub(super) fn connected(
        &mut self,
        streams: Vec<(StreamKind, UnixStream)>,
    ) -> Result<(), Error> {
        if self.stage != Stage::Booting {
            return Ok(());
        }
        let failed = |source| Error::System { action: "connect the program's streams", source };
        for (kind, stream) in streams {
            match kind {
                StreamKind::Stdin => self.input = Some(stream),
                StreamKind::Terminal => {
                    self.input = Some(stream.try_clone().map_err(failed)?);
                    self.outputs.connect(kind, stream);
                }
                _ => self.outputs.connect(kind, stream),
            }
        }
        self.stage = Stage::Starting;
        self.alarms.clear(Alarm::Ready);
        self.alarms.set(Alarm::Started, self.parts.patience);
        self.attach(STARTER, self.parts.attachment)
    }

    /// Hears the agent, or that it has hung up.
    pub(super) fn hear_agent(&mut self) -> Result<(), Error> {
        let messages = self.agent.as_mut().map(Agent::listen).transpose()?;
        match messages.flatten() {
            Some(messages) => self.heed(messages),
            None => {
                self.agent_hung_up();
                Ok(())
            }
        }
    }

    /// What the agent has said before its machine's end may have come only now.
    pub(super) fn hear_last_words(&mut self) -> Result<(), Error> {
        while let Some(agent) = &mut self.agent {
            match agent.listen()? {
                Some(messages) if !messages.is_empty() => self.heed(messages)?,
                _ => self.agent = None,
            }
        }
        Ok(())
    }

    fn heed(&mut self, messages: Vec<FromAgent>) -> Result<(), Error> {
        self.agent_has_spoken |= !messages.is_empty();
        for message in messages {
            match message {
                FromAgent::Hello { version: protocol::VERSION } => {}
                FromAgent::Hello { version } => return Err(Error::Version { version }),
                FromAgent::Started { id: ProcessId::OWN } => self.started(),
                FromAgent::StartFailed { id: ProcessId::OWN, error } => {
                    return Err(Error::Start(error));
                }
                FromAgent::Exited { id: ProcessId::OWN, status, out_of_memory } => {
                    self.ran_out(out_of_memory);
                    self.exited(status);
                }
                FromAgent::Started { id } => self.exec_started(id),
                FromAgent::StartFailed { id, error } => self.exec_failed(id, error),
                FromAgent::Exited { id, status, .. } => self.exec_exited(id, status),
                FromAgent::Answer { request, answer } => self.answered(request, &answer)?,
                // Only a machine that is opened for files alone, or becomes a template, is told so.
                FromAgent::Opened | FromAgent::Prepared => {}
                FromAgent::Synced => self.synced(),
                FromAgent::Settled => self.settled(),
                FromAgent::Trouble { message } => {
                    let words = console::printable(&message);
                    self.clients.tell_all(&FromSupervisor::Trouble(words));
                }
            }
        }
        Ok(())
    }

    /// Tells of a process that was killed for want of memory, and of what memory.
    fn ran_out(&mut self, memory: Option<OutOfMemory>) {
        let Some(memory) = memory else { return };
        let limit = self.record.memory_that_ran_out(memory);
        self.note("oom", &[("limit", &limit)]);
        let words = format!("out of memory: the kernel has killed a process at {limit}");
        self.clients.tell_all(&FromSupervisor::Warning(words));
        (self.state.oom_killed, self.state.oom_limit) = (true, limit);
    }

    /// A machine that ends takes the agent with it: give it a moment to say how it ended.
    pub(super) fn agent_hung_up(&mut self) {
        self.agent = None;
        if !matches!(self.stage, Stage::Exited(_)) {
            self.alarms.set(Alarm::Gone, Duration::from_secs(2).min(self.parts.patience));
        }
    }

    /// Tells the agent something, or remembers it until there is one.
    pub(super) fn tell_agent(&mut self, message: ToAgent) -> Result<(), Error> {
        match (&mut self.agent, self.stage) {
            (_, Stage::Exited(_)) => Ok(()),
            (Some(agent), _) => agent.tell(&message),
            (None, _) => {
                self.unsaid.push(message);
                Ok(())
            }
        }
    }
}

/// What a container that was saved is to be from now on.
fn adoption(container: ContainerSpec, record: &Record) -> Adoption {
    let ContainerSpec { wall_clock, entropy, hostname, etc, networks, process, .. } = container;
    let about = |name: &str, value: &str| format!("{name}={value}").into_bytes();
    let about = [
        about("HYPERRUN_CONTAINER_ID", &record.id),
        about("HYPERRUN_CONTAINER_NAME", &record.name),
    ];
    let env = process.env.iter().cloned().chain(about).collect();
    let root = User::default();
    let hook = ProcessSpec {
        args: Vec::new(),
        env,
        working_dir: "/".to_owned(),
        user: root,
        terminal: None,
        stdin: false,
        more_groups: Vec::new(),
        ..process
    };
    Adoption { wall_clock, entropy, hostname, etc, networks, hook }
}

/// The time of the host, as the guest is to have it.
pub(super) fn wall_clock() -> WallClock {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallClock { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() }
}
