//! Looks after one container from its machine's first instruction to the removal of its folder:
//! listens to the machine, the agent and the attached side, and passes on what concerns another.

mod agent;
mod console;
mod error;
mod machine;
mod saving;
mod unattended;

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use protocol::{ContainerSpec, ExitStatus, FromAgent, ToAgent, WallClock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::config::Start;
use vmm::event::Event;
use vmm::process::Inherited;
use vmm::residence;

pub(crate) use self::machine::MachineParts;
pub(crate) use self::unattended::save_machine;

use self::agent::{Agent, Door};
use self::console::ConsoleTail;
use self::error::Error;
use self::machine::MachineProcess;
use self::saving::Saving;
use crate::containers::Container;
use crate::link::{FromSupervisor, Link, ToSupervisor};
use crate::templates::{Unexplored, Unfinished};
use crate::timings::Stopwatch;

/// Everything a supervisor works with, open already.
pub(crate) struct Task {
    /// The container's folder.
    pub(crate) container: Container,
    /// What the agent is told.
    pub(crate) spec: ContainerSpec,
    /// What the machine is made of.
    pub(crate) machine: MachineParts,
    /// The template that the machine is saved as.
    pub(crate) template: Option<Unfinished>,
    /// The template that the machine goes on from, if more is to be learnt about it.
    pub(crate) unexplored: Option<Unexplored>,
    /// Keeps the image from being removed.
    pub(crate) image: images::ImageLock,
    /// The attached side.
    pub(crate) link: Link,
    /// How long the guest may take to get ready, and the program to start.
    pub(crate) patience: Duration,
    /// Since when the clocks run.
    pub(crate) stopwatch: Stopwatch,
    /// What the person's shell had open.
    pub(crate) inherited: Inherited,
}

/// Carries out `task` in a process of its own; the code that process ends with.
pub(crate) fn supervise(task: Task) -> u8 {
    let mut console = ConsoleTail::default();
    let Task {
        container,
        spec,
        machine,
        template,
        unexplored,
        image,
        link,
        patience,
        stopwatch,
        inherited,
    } = task;
    inherited.close();
    let is_copy = matches!(machine.start, Start::Restore { .. });
    let detached = detach(machine.trace).and_then(|()| machine::bind(&container.folder));
    // The machine's process has no use for any of these.
    let ours = Cell::new(Some((container, image, link, template, unexplored)));
    let machine = detached
        .and_then(|listener| MachineProcess::start(machine, listener, || drop(ours.take())));
    let (container, image, link, template, unexplored) =
        ours.take().expect("only the machine's process drops them");
    let mut saving = Saving::new(template);
    let ending = machine.and_then(|machine| {
        let supervisor = Supervisor {
            machine,
            door: Door::new(&container.folder),
            spec,
            link: &link,
            console: &mut console,
            saving: &mut saving,
            is_copy,
            unexplored,
            patience,
            stopwatch,
            stage: Stage::Booting,
            deadline: Some(Instant::now() + patience),
            agent: None,
            unsaid: Vec::new(),
            machine_ended: false,
        };
        supervisor.serve()
    });
    container.remove();
    drop(image);
    saving.end();
    match ending {
        Ok(()) => 0,
        Err(error) => {
            // Fails only when the attached side is gone, and then there is nobody to tell.
            let _ = link.send(&FromSupervisor::Failed(error.into_failure(console.text())));
            1
        }
    }
}

/// Leaves the terminal's session, and its streams unless a trace goes there.
fn detach(trace: bool) -> Result<(), Error> {
    let failed = |source: rustix::io::Errno| Error::System {
        action: "leave the terminal",
        source: source.into(),
    };
    rustix::process::setsid().map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).map_err(failed)?;
    rustix::stdio::dup2_stdin(&null).map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(failed)?;
    if !trace {
        rustix::stdio::dup2_stderr(&null).map_err(failed)?;
    }
    Ok(())
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The guest is not ready.
    Booting,
    /// The agent was told what to run.
    Starting,
    /// The program runs.
    Running,
    /// The program has ended, and what it wrote is still on its way.
    Exited,
}

/// Who has something to say.
enum Wake {
    Machine,
    Agent,
    Attached,
    /// Nobody, for too long.
    Late,
}

struct Supervisor<'a> {
    machine: MachineProcess,
    door: Door<'a>,
    spec: ContainerSpec,
    link: &'a Link,
    console: &'a mut ConsoleTail,
    saving: &'a mut Saving,
    /// The machine goes on from a template.
    is_copy: bool,
    unexplored: Option<Unexplored>,
    patience: Duration,
    stopwatch: Stopwatch,
    stage: Stage,
    deadline: Option<Instant>,
    agent: Option<Agent>,
    /// What the agent is to be told once it is there.
    unsaid: Vec<ToAgent>,
    machine_ended: bool,
}

impl Supervisor<'_> {
    /// Serves until the program's output has been passed on, or the attached side is gone. What
    /// fails before a copy's agent has answered is the template's fault.
    fn serve(mut self) -> Result<(), Error> {
        let served = self.serve_all();
        match served {
            Err(error) if self.is_copy && self.stage == Stage::Booting => {
                Err(Error::Template(Box::new(error)))
            }
            served => served,
        }
    }

    fn serve_all(&mut self) -> Result<(), Error> {
        loop {
            match self.wait()? {
                Wake::Machine => self.hear_machine()?,
                Wake::Agent => self.hear_agent()?,
                Wake::Attached => match self.hear_attached()? {
                    Some(ToSupervisor::Drained) if self.stage == Stage::Exited => return Ok(()),
                    Some(message) => self.pass_to_agent(message)?,
                    None => return Ok(()),
                },
                Wake::Late => return Err(self.late()),
            }
        }
    }

    fn wait(&self) -> Result<Wake, Error> {
        let failed = |source: rustix::io::Errno| Error::System {
            action: "wait for the machine",
            source: source.into(),
        };
        // The agent's last words are heard before its machine's end.
        let mut sources = Vec::with_capacity(3);
        sources.extend(self.agent.as_ref().map(|agent| (agent.control(), Wake::Agent)));
        if !self.machine_ended {
            sources.push((self.machine.events(), Wake::Machine));
        }
        sources.push((self.link.as_fd(), Wake::Attached));
        let mut polled: Vec<_> = sources
            .iter()
            .map(|(source, _)| PollFd::from_borrowed_fd(*source, PollFlags::IN))
            .collect();
        let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).expect("a patience in seconds"));
        rustix::io::retry_on_intr(|| poll(&mut polled, left.as_ref())).map_err(failed)?;
        let ready = polled.iter().position(|one| !one.revents().is_empty());
        Ok(ready.map_or(Wake::Late, |at| sources.swap_remove(at).1))
    }

    fn hear_machine(&mut self) -> Result<(), Error> {
        match self.machine.next_event()? {
            Event::Running => self.tell(&FromSupervisor::Running(self.stopwatch.elapsed())),
            Event::AgentReady => self.greet_agent(),
            Event::Saved => {
                self.saving.publish();
                Ok(())
            }
            Event::NotSaved(reason) => {
                self.saving.discard();
                self.tell(&FromSupervisor::Warning(format!("no template was made: {reason}")))
            }
            Event::Console(bytes) => self.hear_console(bytes),
            Event::Ended(exit) => {
                self.machine_ended = true;
                self.agent = None;
                match self.stage {
                    Stage::Exited => Ok(()),
                    _ => Err(Error::from_exit(exit)),
                }
            }
        }
    }

    fn greet_agent(&mut self) -> Result<(), Error> {
        if self.stage != Stage::Booting {
            return Ok(());
        }
        self.tell(&FromSupervisor::AgentReady(self.stopwatch.elapsed()))?;
        self.spec.wall_clock = wall_clock();
        let (mut agent, streams) = Agent::greet(&self.door, &self.spec)?;
        let (kinds, sockets): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
        // The attached side may be gone by now; the next wait sees it.
        let _ = self.link.send_with(&FromSupervisor::Streams(kinds), &sockets);
        for message in self.unsaid.drain(..) {
            agent.tell(&message)?;
        }
        self.agent = Some(agent);
        self.stage = Stage::Starting;
        self.deadline = Some(Instant::now() + self.patience);
        Ok(())
    }

    fn hear_agent(&mut self) -> Result<(), Error> {
        let messages = self.agent.as_mut().map(Agent::listen).transpose()?;
        let Some(messages) = messages.flatten() else {
            return self.agent_hung_up();
        };
        for message in messages {
            match message {
                FromAgent::Hello { version: protocol::VERSION } => {}
                FromAgent::Hello { version } => return Err(Error::Version { version }),
                FromAgent::Started => self.started()?,
                FromAgent::StartFailed(error) => return Err(Error::Start(error)),
                FromAgent::Exited(status) => self.exited(status)?,
                FromAgent::Trouble { message } => {
                    self.tell(&FromSupervisor::Trouble(console::printable(&message)))?;
                }
            }
        }
        Ok(())
    }

    /// A machine that ends takes the agent with it: give it a moment to say how it ended.
    fn agent_hung_up(&mut self) -> Result<(), Error> {
        self.agent = None;
        if self.stage != Stage::Exited {
            self.deadline = Some(Instant::now() + Duration::from_secs(2).min(self.patience));
        }
        Ok(())
    }

    fn started(&mut self) -> Result<(), Error> {
        if self.stage == Stage::Starting {
            self.stage = Stage::Running;
            self.deadline = None;
        }
        self.tell(&FromSupervisor::Started)?;
        if let Some(template) = self.unexplored.take() {
            template.explore(self.machine.pid());
        }
        residence::give_back_text();
        Ok(())
    }

    fn exited(&mut self, status: ExitStatus) -> Result<(), Error> {
        self.tell(&FromSupervisor::Exited(status))?;
        self.stage = Stage::Exited;
        self.deadline = None;
        Ok(())
    }

    fn hear_console(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.console.add(&bytes);
        if self.machine.traced() {
            for piece in bytes.chunks(console::MAX_PIECE_BYTES) {
                self.tell(&FromSupervisor::Console(piece.to_vec()))?;
            }
        }
        Ok(())
    }

    fn hear_attached(&mut self) -> Result<Option<ToSupervisor>, Error> {
        let failed = |source| Error::System { action: "hear the attached side", source };
        Ok(self.link.receive().map_err(failed)?.map(|(message, _)| message))
    }

    fn pass_to_agent(&mut self, message: ToSupervisor) -> Result<(), Error> {
        let message = match message {
            ToSupervisor::Resize(size) => ToAgent::Resize(size),
            ToSupervisor::Signal(number) => ToAgent::Signal { number },
            ToSupervisor::Drained => return Ok(()),
        };
        match (&mut self.agent, self.stage) {
            (_, Stage::Exited) => Ok(()),
            (Some(agent), _) => agent.tell(&message),
            (None, _) => {
                self.unsaid.push(message);
                Ok(())
            }
        }
    }

    /// The attached side reads nothing any more while it drains the streams.
    fn tell(&self, message: &FromSupervisor) -> Result<(), Error> {
        if self.stage != Stage::Exited {
            // The attached side may be gone; the next wait sees it.
            let _ = self.link.send(message);
        }
        Ok(())
    }

    fn late(&self) -> Error {
        let seconds = self.patience.as_secs();
        match (self.stage, &self.agent) {
            (Stage::Booting, _) => Error::NotReady { seconds },
            (Stage::Starting, Some(_)) => Error::NotStarted { seconds },
            _ => Error::AgentGone,
        }
    }
}

fn wall_clock() -> WallClock {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallClock { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() }
}
