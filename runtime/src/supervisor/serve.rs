//! The loop of a supervisor: waits for whoever has something to say, and does what follows from it.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use protocol::{ExitStatus, Interface, Limits, ToAgent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::event::Event;
use vmm::residence;

use super::Attachment;
use super::agent::Agent;
use super::alarms::{Alarm, Alarms};
use super::answers::Answers;
use super::checks::Checks;
use super::clients::{ClientId, Clients};
use super::console::{self, ConsoleTail};
use super::error::Error;
use super::machine::MachineProcess;
use super::notes::Notes;
use super::outputs::Outputs;
use super::plugging::Places;
use super::processes::Asked;
use super::questions::Questions;
use super::remains::Remains;
use super::saving::Saving;
use super::snapshots::Snapshot;
use crate::containers::{Home, Record, State, Status};
use crate::keeping::LogDriver;
use crate::link::FromSupervisor;
use crate::logs::{self, LogWriter};
use crate::moment::Moment;
use crate::network::user::passt::Passt;
use crate::publish::{Entrance, Proxy};
use crate::timings::Stopwatch;
use crate::working_set::Unexplored;

/// How soon all of the log can be read once nothing more comes.
const SHOWN: Duration = Duration::from_millis(20);

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The guest is not ready, or has not answered.
    Booting,
    /// The agent was told what to run.
    Starting,
    /// The program runs.
    Running,
    /// The program has ended, and what it wrote is still on its way.
    Exited(ExitStatus),
}

/// Who has something to say.
#[derive(Clone, Copy, Debug)]
enum Wake {
    Agent,
    Machine,
    Doorway,
    Answer,
    Output(usize),
    Check,
    Passt,
    Client(ClientId),
}

/// What a supervisor knows from the start.
pub(super) struct Parts {
    /// The machine goes on from a template, or boots the kernel of one.
    pub(super) by_template: bool,
    /// The container is in it already, and takes the place of this one.
    pub(super) adopts: bool,
    /// The container's interfaces.
    pub(super) interfaces: Vec<Interface>,
    /// What is at the places of the machine's interfaces.
    pub(super) places: Places,
    pub(super) unexplored: Option<Unexplored>,
    pub(super) attachment: Attachment,
    pub(super) patience: Duration,
    pub(super) stopwatch: Stopwatch,
    /// The ports of the host that lead to the container.
    pub(super) entrance: Entrance,
    /// What carries its frames, if that is passt.
    pub(super) passt: Option<Passt>,
}

/// What is left of a life.
pub(super) struct Served {
    pub(super) state: State,
    pub(super) ending: Result<ExitStatus, Error>,
    /// Its machine, if nobody needs to wait until that is gone.
    pub(super) remains: Option<Remains>,
    pub(super) entrance: Entrance,
}

/// A container that is looked after.
pub(super) struct Supervisor<'a> {
    pub(super) parts: Parts,
    pub(super) machine: MachineProcess,
    pub(super) home: &'a Home,
    pub(super) record: &'a mut Record,
    pub(super) state: State,
    pub(super) clients: &'a mut Clients,
    pub(super) notes: &'a mut Notes,
    console: &'a mut ConsoleTail,
    saving: &'a mut Saving,
    pub(super) outputs: Outputs,
    /// The program's standard input or its terminal.
    pub(super) input: Option<UnixStream>,
    pub(super) stage: Stage,
    pub(super) alarms: Alarms,
    pub(super) asked: Asked,
    pub(super) questions: Questions,
    /// The checks of the program's health, once it runs.
    pub(super) checks: Option<Checks>,
    /// Leads whoever comes to the doors to the program, once it runs.
    pub(super) proxy: Option<Proxy>,
    /// The container's address that they are led to.
    pub(super) led_to: Option<IpAddr>,
    pub(super) agent: Option<Agent>,
    /// Whether it has said anything.
    pub(super) agent_has_spoken: bool,
    /// The streams that the guest was knocked for.
    pub(super) answers: Answers,
    /// The snapshot that is being taken.
    pub(super) snapshot: Option<Snapshot>,
    /// What the agent is to be told once it is there.
    pub(super) unsaid: Vec<ToAgent>,
    pub(super) machine_ended: bool,
    /// Nothing runs in it any more, and its disks are written.
    pub(super) machine_is_done: bool,
    /// They are unmounted too.
    pub(super) is_settled: bool,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(
        parts: Parts,
        machine: MachineProcess,
        (home, record, state): (&'a Home, &'a mut Record, State),
        (clients, notes): (&'a mut Clients, &'a mut Notes),
        (console, saving): (&'a mut ConsoleTail, &'a mut Saving),
    ) -> Self {
        let log = match record.keeping.log.driver {
            LogDriver::None => None,
            LogDriver::JsonFile => {
                let path = logs::path(home.path(), &record.id);
                Some(LogWriter::new(path, record.keeping.log))
            }
        };
        let mut alarms = Alarms::default();
        alarms.set(Alarm::Ready, parts.patience);
        Self {
            parts,
            machine,
            home,
            record,
            state: State { status: Status::Starting, ..state },
            clients,
            notes,
            console,
            saving,
            outputs: Outputs::new(log),
            input: None,
            stage: Stage::Booting,
            alarms,
            asked: Asked::default(),
            questions: Questions::default(),
            checks: None,
            proxy: None,
            led_to: None,
            agent: None,
            agent_has_spoken: false,
            answers: Answers::default(),
            snapshot: None,
            unsaid: Vec::new(),
            machine_ended: false,
            machine_is_done: false,
            is_settled: false,
        }
    }

    /// Serves until the container has ended. What fails before the agent of a machine that a template has part in has
    /// answered is the template's fault.
    pub(super) fn serve(mut self) -> Served {
        let ending = match self.serve_all() {
            Err(Error::Abandoned) => Err(Error::Abandoned),
            Err(error) if self.parts.by_template && !self.agent_has_spoken => {
                Err(Error::Template(Box::new(error)))
            }
            ending => ending,
        };
        let entrance = self.shut_doors();
        let Self { state, machine, agent, machine_is_done, is_settled, .. } = self;
        let agent = agent.filter(|_| !is_settled);
        let remains = machine_is_done.then(|| Remains::new(machine, agent));
        Served { state, ending, remains, entrance }
    }

    fn serve_all(&mut self) -> Result<ExitStatus, Error> {
        while !self.is_over() {
            self.step()?;
        }
        let Stage::Exited(status) = self.stage else { return Err(Error::AgentGone) };
        self.await_synced(status);
        Ok(status)
    }

    /// Whether the program has ended, and everybody has all that it wrote.
    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Exited(_)) && self.outputs.are_drained()
    }

    /// Waits until something happens, and serves everybody who has something to say.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        for wake in self.wait()? {
            match wake {
                Wake::Agent => self.hear_agent()?,
                Wake::Machine => self.hear_machine()?,
                Wake::Doorway => self.clients.admit(),
                Wake::Answer => self.hear_answers()?,
                Wake::Output(at) => {
                    let trouble = self.outputs.serve(at);
                    self.tell_trouble(trouble);
                    if self.outputs.hide_lines() {
                        self.alarms.set(Alarm::Shown, SHOWN);
                    }
                }
                Wake::Check => self.hear_check(),
                Wake::Passt => self.lose_passt(),
                Wake::Client(id) => self.hear_client(id)?,
            }
        }
        while let Some(alarm) = self.alarms.take_due() {
            self.alarmed(alarm)?;
        }
        self.notes.write(self.home, self.record);
        Ok(())
    }

    /// The agent's last words are heard before its machine's end.
    fn wait(&self) -> Result<Vec<Wake>, Error> {
        let failed = |source: rustix::io::Errno| Error::System {
            action: "wait for the machine",
            source: source.into(),
        };
        let mut sources = Vec::with_capacity(8);
        let agent = self.agent.as_ref();
        sources.extend(agent.map(Agent::control).map(|(fd, flags)| (fd, flags, Wake::Agent)));
        let answers = self.answers.sources();
        sources.extend(answers.map(|source| (source, PollFlags::IN, Wake::Answer)));
        if !self.machine_ended {
            sources.push((self.machine.events(), PollFlags::IN, Wake::Machine));
        }
        let outputs = self.outputs.sources();
        sources.extend(outputs.map(|(source, flags, at)| (source, flags, Wake::Output(at))));
        let checks = self.checks.iter().flat_map(Checks::sources);
        sources.extend(checks.map(|source| (source, PollFlags::IN, Wake::Check)));
        let passt = self.parts.passt.as_ref();
        sources.extend(passt.map(|passt| (passt.as_fd(), PollFlags::IN, Wake::Passt)));
        let clients = self.clients.ids();
        sources.extend(clients.map(|(link, id)| (link, PollFlags::IN, Wake::Client(id))));
        let doorway = self.clients.doorway();
        sources.extend(doorway.map(|doorway| (doorway, PollFlags::IN, Wake::Doorway)));
        let mut polled: Vec<_> = sources
            .iter()
            .map(|(source, flags, _)| PollFd::from_borrowed_fd(*source, *flags))
            .collect();
        let left = self.alarms.next();
        let left = left.map(|left| Timespec::try_from(left).expect("a patience in seconds"));
        rustix::io::retry_on_intr(|| poll(&mut polled, left.as_ref())).map_err(failed)?;
        let ready = sources.iter().zip(&polled).filter(|(_, one)| !one.revents().is_empty());
        Ok(ready.map(|((_, _, wake), _)| *wake).collect())
    }

    /// A container whose passt ends before its time goes on without a network.
    fn lose_passt(&mut self) {
        let Some(mut passt) = self.parts.passt.take() else { return };
        if self.machine_ended || matches!(self.stage, Stage::Exited(_)) {
            return;
        }
        self.state.ports.clear();
        let words = format!("the container has no network any more: {}", passt.last_words());
        self.clients.tell_all(&FromSupervisor::Warning(words));
        self.enter(self.state.status);
    }

    fn hear_machine(&mut self) -> Result<(), Error> {
        match self.machine.next_event()? {
            Event::Running => {
                let time = self.parts.stopwatch.elapsed();
                self.clients.tell_all(&FromSupervisor::Running(time));
            }
            Event::AgentReady => self.greet_agent()?,
            Event::Saved => self.saving.publish(),
            Event::NotSaved(reason) => {
                self.saving.discard();
                let words = format!("no template was made: {reason}");
                self.clients.tell_all(&FromSupervisor::Warning(words));
            }
            Event::Console(bytes) => self.hear_console(&bytes),
            Event::Live(step) => self.hear_of_snapshot(step)?,
            Event::Interface { interface, outcome } => {
                self.interface_changed(interface, outcome)?;
            }
            Event::Ended(exit) => {
                self.machine_ended = true;
                self.machine_is_done = true;
                self.hear_last_words()?;
                if !matches!(self.stage, Stage::Exited(_)) {
                    return Err(Error::from_exit(exit));
                }
            }
        }
        Ok(())
    }

    pub(super) fn started(&mut self) {
        if self.stage != Stage::Starting {
            return;
        }
        self.stage = Stage::Running;
        self.alarms.clear(Alarm::Started);
        self.state.started = Some(Moment::now());
        self.state.supervisor = Some(rustix::process::getpid().as_raw_nonzero().get());
        (self.state.exit_code, self.state.oom_killed) = (0, false);
        self.state.oom_limit.clear();
        self.state.error.clear();
        if self.parts.adopts {
            self.unplug_leftovers();
        }
        self.begin_checks();
        self.lead_in();
        self.enter(Status::Running);
        self.note("start", &[]);
        // Before whoever has started it tells of it in turn.
        self.notes.write(self.home, self.record);
        self.clients.tell_all(&FromSupervisor::Started);
        if let Some(template) = self.parts.unexplored.take() {
            template.explore(self.machine.pid());
        }
        residence::give_back_text();
    }

    /// Writes down how far the container has come. It goes on where that fails: whoever looks
    /// meanwhile sees an older state.
    pub(super) fn enter(&mut self, status: Status) {
        self.state.status = status;
        if let Err(error) = self.home.write_state(&self.state) {
            let words = vmm::error::chain(&error);
            self.clients.tell_all(&FromSupervisor::Warning(words));
        }
    }

    /// The limits in the guest were changed: those of its machine follow, and hold for its next one.
    pub(super) fn limited(&mut self, limits: &Limits) {
        self.record.container.limits = limits.clone();
        self.machine.limit(&self.record.id, limits);
    }

    /// Something has happened to the container.
    pub(super) fn note(&mut self, action: &str, more: &[(&str, &str)]) {
        self.notes.note(self.record, action, more);
    }

    /// The machine has saved the container and ends with that.
    pub(super) fn cut_off(&mut self) {
        (self.machine_ended, self.machine_is_done) = (true, true);
        self.state.stopped = true;
        self.exited(ExitStatus::Signal(9));
        self.outputs.abandon();
    }

    pub(super) fn exited(&mut self, status: ExitStatus) {
        self.stage = Stage::Exited(status);
        self.checks = None;
        for alarm in [
            Alarm::Stopped,
            Alarm::Killed,
            Alarm::Gone,
            Alarm::Started,
            Alarm::Check,
            Alarm::Checked,
            Alarm::Stilled,
        ] {
            self.alarms.clear(alarm);
        }
    }

    /// Tells everybody of a log that has just failed.
    fn tell_trouble(&mut self, trouble: Option<String>) {
        if let Some(trouble) = trouble {
            self.clients.tell_all(&FromSupervisor::Warning(trouble));
        }
    }

    fn hear_console(&mut self, bytes: &[u8]) {
        self.console.add(bytes);
        if self.machine.traced() {
            for piece in bytes.chunks(console::MAX_PIECE_BYTES) {
                self.clients.tell_all(&FromSupervisor::Console(piece.to_vec()));
            }
        }
    }

    fn alarmed(&mut self, alarm: Alarm) -> Result<(), Error> {
        let seconds = self.parts.patience.as_secs();
        match alarm {
            _ if self.puts_off(alarm) => {}
            Alarm::Ready => return Err(Error::NotReady { seconds }),
            Alarm::Answered => self.answers_overdue()?,
            Alarm::Replied => self.questions_overdue(),
            Alarm::Begun => self.beginnings_overdue()?,
            Alarm::Started => return Err(Error::NotStarted { seconds }),
            Alarm::Gone => return Err(Error::AgentGone),
            Alarm::Stopped => {
                self.note("kill", &[("signal", "9")]);
                self.kill_program()?;
            }
            Alarm::Drained => self.outputs.drop_slow(),
            Alarm::Shown => {
                let trouble = self.outputs.show_log();
                self.tell_trouble(trouble);
            }
            Alarm::Check => self.check()?,
            Alarm::Checked => self.check_overdue()?,
            Alarm::Killed => {
                // The agent does not answer: the machine goes as it is.
                self.machine_ended = true;
                self.exited(ExitStatus::Signal(9));
                self.outputs.abandon();
            }
            Alarm::Synced => self.machine_ended = true,
            Alarm::Stilled => self.snapshot_overdue()?,
        }
        Ok(())
    }
}
