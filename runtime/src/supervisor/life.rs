//! The lives of a container: a machine from its first instruction to its end, and after it, where the
//! restart policy says so, another one with the same writable disk.

use std::cell::Cell;
use std::time::Duration;

use images::ImageLock;
use protocol::ExitStatus;

use super::Attachment;
use super::clients::Clients;
use super::console::ConsoleTail;
use super::error::Error;
use super::interval::{self, Interval};
use super::machine::{self, MachineProcess};
use super::notes::Notes;
use super::plugging::Places;
use super::remains::Remains;
use super::restarts::{Backoff, Run};
use super::saving::Saving;
use super::serve::{Parts, Supervisor};
use crate::containers::{Home, Record, State, Status};
use crate::keeping::RestartPolicy;
use crate::link::{Blame, Failure, FromSupervisor};
use crate::moment::Moment;
use crate::network::files::with_gateway;
use crate::network::user::passt::{Errand, Passt};
use crate::options::Dns;
use crate::preparation::{Choice, Links, Prepared, Resort, Scene};
use crate::publish::Entrance;
use crate::resolver::Need;
use crate::timings::Stopwatch;

/// A container and those who have to do with it.
pub(super) struct Charge {
    /// Its folder.
    pub(super) home: Home,
    /// What it is.
    pub(super) record: Record,
    /// How far it has come.
    pub(super) state: State,
    /// Keeps its image from being removed.
    pub(super) image: ImageLock,
    /// The ports of the host that lead to it, at which whoever comes between two lives waits.
    pub(super) entrance: Entrance,
    /// Keeps names answered.
    pub(super) need: Option<Need>,
    /// Whoever talks to its supervisor.
    pub(super) clients: Clients,
    /// What is told of it to whoever follows events.
    pub(super) notes: Notes,
}

/// What its lives have in common.
pub(super) struct Circumstances {
    /// What a machine is made of.
    pub(super) scene: Scene,
    /// What its starter wants of the first one's streams.
    pub(super) attachment: Attachment,
    /// How long a guest may take to get ready, and the program to start.
    pub(super) patience: Duration,
    /// Since when the clocks run.
    pub(super) stopwatch: Stopwatch,
}

/// How a life has ended.
pub(super) struct End {
    /// The program's end, or why there is none.
    pub(super) outcome: Result<ExitStatus, Failure>,
    /// The template that it may have left.
    pub(super) saving: Saving,
    /// A machine in which nothing runs any more, so that nobody needs to wait until it is gone.
    pub(super) remains: Option<Remains>,
}

impl End {
    /// Of a container for which there is no machine.
    pub(super) fn before_any_life(error: Error) -> Self {
        Self::of(error.into_failure(""))
    }

    fn of(failure: Failure) -> Self {
        Self { outcome: Err(failure), saving: Saving::new(None), remains: None }
    }

    /// What everybody hears of it.
    pub(super) fn message(&self) -> FromSupervisor {
        match &self.outcome {
            Ok(status) => FromSupervisor::Exited(status.shell_code()),
            Err(failure) => FromSupervisor::Failed(failure.clone()),
        }
    }

    /// Its code as a shell shows it, and what went wrong.
    fn code(&self) -> (u8, &str) {
        match &self.outcome {
            Ok(status) => (status.shell_code(), ""),
            Err(failure) => (failure.code, &failure.message),
        }
    }

    fn is_by_template(&self) -> bool {
        self.outcome.as_ref().is_err_and(|failure| failure.blame == Blame::Template)
    }
}

impl Charge {
    /// Lives until the container has ended and is not to be started again.
    pub(super) fn look_after(self, first: Prepared, circumstances: Circumstances) -> (Self, End) {
        let attachment = circumstances.attachment;
        let (mut charge, mut end) = self.live(first, &circumstances, attachment);
        let mut backoff = Backoff::default();
        while let Some(delay) = charge.starts_again(&end, &mut backoff) {
            charge.enter_interval(&end);
            // Another machine can be started only by a process of one thread.
            end.saving.end();
            end.remains.take().iter_mut().for_each(Remains::finish);
            let interval = interval::wait(&mut charge.clients, delay);
            if interval != Interval::Over {
                charge.state.stopped = true;
                charge.notes.stop_asked = interval == Interval::Stopped;
                break;
            }
            (charge, end) = charge.live_again(&circumstances);
        }
        (charge, end)
    }

    /// One life, in this machine.
    fn live(
        mut self,
        prepared: Prepared,
        circumstances: &Circumstances,
        attachment: Attachment,
    ) -> (Self, End) {
        let Prepared { machine, links, template, unexplored, origin, adopts, .. } = prepared;
        let Links { interfaces, resolvers, host, errand, carrier } = links;
        self.state.carrier = carrier;
        let etc = &mut self.record.container.etc;
        // What was asked for is in it already, but for who answers.
        etc.resolv_conf = Dns::default().resolv_conf(&etc.resolv_conf, &resolvers);
        etc.hosts = with_gateway(&etc.hosts, host);
        let listener = machine::bind(&self.home.folder);
        // The machine's process has no use for any of these.
        let ours = Cell::new(Some((self, template, unexplored, errand)));
        let machine = listener
            .and_then(|listener| MachineProcess::start(machine, listener, || drop(ours.take())));
        let (mut charge, template, unexplored, errand) =
            ours.take().expect("only the machine's process drops them");
        let (mut console, mut saving) = (ConsoleTail::default(), Saving::new(template));
        let started = machine.and_then(|machine| Ok((machine, charge.send_out(errand)?)));
        let (ending, remains) = match started {
            Ok((machine, passt)) => {
                let Circumstances { patience, stopwatch, .. } = *circumstances;
                let entrance = std::mem::take(&mut charge.entrance);
                let macs = interfaces.iter().map(|interface| interface.mac);
                let resolvers = macs.zip(resolvers).collect();
                let places = Places::new(&interfaces, resolvers, machine.devices().len());
                let parts = Parts {
                    by_template: origin.is_some(),
                    adopts,
                    interfaces,
                    places,
                    unexplored,
                    attachment,
                    patience,
                    stopwatch,
                    entrance,
                    passt,
                };
                let supervisor = Supervisor::new(
                    parts,
                    machine,
                    (&charge.home, &mut charge.record, charge.state.clone()),
                    (&mut charge.clients, &mut charge.notes),
                    (&mut console, &mut saving),
                );
                let served = supervisor.serve();
                (charge.state, charge.entrance) = (served.state, served.entrance);
                (served.ending, served.remains)
            }
            Err(error) => (Err(error), None),
        };
        let outcome = ending.map_err(|error| error.into_failure(console.text()));
        let end = End { outcome, saving, remains };
        charge.note_death(&end);
        (charge, end)
    }

    /// Where the container goes out by passt, has it begin, beside the machine.
    fn send_out(&self, errand: Option<Errand>) -> Result<Option<Passt>, Error> {
        let start = |errand: Errand| errand.start(&self.entrance.by_passt);
        Ok(errand.map(start).transpose()?)
    }

    /// A program that has run has died.
    fn note_death(&mut self, end: &End) {
        self.notes.forget_execs();
        if self.has_run() {
            let ran_for = self.state.started.map(Moment::age).unwrap_or_default().as_secs();
            let (code, ran_for) = (end.code().0.to_string(), ran_for.to_string());
            let more = [("exitCode", code.as_str()), ("execDuration", ran_for.as_str())];
            self.notes.note(&self.record, "die", &more);
        }
    }

    /// Whether the life that is over had a program.
    fn has_run(&self) -> bool {
        matches!(self.state.status, Status::Running | Status::Paused)
    }

    /// How long to wait until it is started again, if it is: not if a person has ended it. The policy is the one
    /// that is written down now.
    fn starts_again(&self, end: &End, backoff: &mut Backoff) -> Option<Duration> {
        if self.record.keeping.auto_remove || self.state.stopped || !self.has_run() {
            return None;
        }
        let policy = match self.home.read_record() {
            Some(record) => record.keeping.restart,
            None => RestartPolicy::No,
        };
        let run = Run {
            code: end.code().0,
            ran_for: self.state.started.map(Moment::age).unwrap_or_default(),
            restarts: self.state.restarts,
        };
        backoff.after(run, policy)
    }

    /// Tells everybody who was with the life that it has ended.
    fn enter_interval(&mut self, end: &End) {
        let (code, error) = end.code();
        let (restarts, state) = (self.state.restarts + 1, self.state.clone());
        self.state = State {
            status: Status::Restarting,
            supervisor: state.supervisor,
            restarts,
            ..state.ended(code, error.to_owned())
        };
        if let Err(error) = self.home.write_state(&self.state) {
            let words = vmm::error::chain(&error);
            self.clients.tell_all(&FromSupervisor::Warning(words));
        }
        self.notes.write(&self.home, &mut self.record);
        self.clients.tell_all(&end.message());
        self.clients.part();
    }

    /// A life in a machine that is made anew.
    fn live_again(mut self, circumstances: &Circumstances) -> (Self, End) {
        self.state.status = Status::Starting;
        // It may have been connected and disconnected meanwhile.
        if let Some(record) = self.home.read_record() {
            self.record.networks = record.networks;
        }
        let scene = &circumstances.scene;
        let made = scene.refresh(&mut self.record).and_then(|(image, _)| {
            let (templates, wanted) = scene.template(&self.record)?;
            let wanted = wanted.as_ref();
            let choice = Choice { templates: &templates, wanted, resort: Resort::Shape };
            let prepared = scene.prepare(&self.home, &self.record, &image, choice)?;
            Ok((prepared, image, templates))
        });
        let (prepared, image, templates) = match made {
            Ok(made) => made,
            Err(error) => return (self, End::of(failure(&error))),
        };
        let origin = prepared.origin.clone();
        let (charge, end) = self.live(prepared, circumstances, Attachment::None);
        if !end.is_by_template() {
            return (charge, end);
        }
        origin.iter().for_each(|wanted| templates.set_aside(&wanted.key));
        let choice = Choice { templates: &templates, wanted: None, resort: Resort::Boot };
        match scene.prepare(&charge.home, &charge.record, &image, choice) {
            Ok(prepared) => charge.live(prepared, circumstances, Attachment::None),
            Err(error) => (charge, End::of(failure(&error))),
        }
    }
}

fn failure(error: &crate::Error) -> Failure {
    let message = vmm::error::chain(error);
    Failure { code: error.exit_code(), message, hint: error.hint(), ..Failure::default() }
}
