//! Creates containers and starts them: image, plan, record, files, supervisor, and whoever is with it.

use std::cell::Cell;
use std::time::Duration;

use images::{Image, ImageLock, Store};
use protocol::WindowSize;
use vmm::process::Inherited;
use vmm::residence;

use crate::attach::{Attached, Attendance, Subject, attach, terminal_size};
use crate::build::build_aside;
use crate::containers::{Claim, Containers, Found, Home, Record, State, Status};
use crate::control::{Removal, remove};
use crate::error::Error;
use crate::events::of_container;
use crate::keeping::{Keeping, RestartPolicy};
use crate::link::{Blame, Link};
use crate::network::{NO_NETWORK, Networks, user};
use crate::options::NetworkOptions;
use crate::places::Places;
use crate::plan::{Plan, PlannedImage, plan};
use crate::preparation::{Choice, Prepared, Resort, Scene};
use crate::process::Independent;
use crate::publish::{Entrance, open_doors};
use crate::record_of::record_of;
use crate::snapshots::Snapshot;
use crate::spec::{PullPolicy, RunSpec};
use crate::supervisor::{Attachment, Task, supervise};
use crate::templates::Wanted;
use crate::timings::{Clocks, Stopwatch};
use crate::transfer::pull;
use crate::voice::{say, tell};
use crate::{host, kvm};

/// The environment variable with the seconds a guest may take to get ready.
const PATIENCE_VARIABLE: &str = "HYPERRUN_BOOT_TIMEOUT";
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// How long a supervisor may take to end that has nothing left to do.
const FAREWELL: Duration = Duration::from_secs(10);
/// The size of a terminal that nobody looks at.
pub const UNSEEN_SIZE: WindowSize = WindowSize { rows: 24, columns: 80 };

/// How a command that was with a container has ended.
#[derive(Debug)]
pub struct Outcome {
    /// The code to exit with: the program's own, or 128 and its signal; 0 for one that goes on.
    pub code: u8,
    /// When things happened.
    pub clocks: Clocks,
}

/// A container that was just created, and that nobody else can start yet.
#[derive(Debug)]
pub struct Created {
    home: Home,
    record: Record,
    image: Image,
    lock: ImageLock,
    containers: Containers,
    scene: Scene,
    inherited: Inherited,
    /// What its first start goes on from.
    snapshot: Option<Snapshot>,
}

/// Creates a container. To be called while this process has one thread.
///
/// # Errors
/// When the image is not there, what was asked for makes no container, or its name is in use.
pub fn create(spec: &RunSpec, keeping: Keeping, places: &Places) -> Result<Created, Error> {
    let inherited = Inherited::look();
    residence::share_one_heap();
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    let image = find_or_pull(&store, spec, places)?;
    let lock = image.lock()?;
    let name = image_name(&spec.image, &image);
    let planned = PlannedImage { name: &name, config: &image.config };
    let plan: Plan = plan(spec, planned, &host::look()?)?;
    plan.warnings.iter().for_each(|warning| say("warning", warning));
    let containers = Containers::of(places);
    let record = record_of(spec, keeping, &image, name, plan);
    let networks = Networks::open(places);
    for asked in &spec.options.network.networks {
        networks.found_default(&asked.name)?;
    }
    let join = |record: &mut Record| networks.join(record, &spec.options.network);
    let (home, record) = containers.register()?.create(record, join)?;
    containers.events().add(&[of_container(&record, "create", &[])]);
    let scene = Scene { places: places.clone(), debug: spec.debug };
    Ok(Created { home, record, image, lock, containers, scene, inherited, snapshot: None })
}

/// Creates a container that goes on where a snapshot was taken. To be called while this process has one
/// thread.
///
/// # Errors
/// When the snapshot's image is not here, or is another one, or the container's name is in use.
pub(crate) fn create_copy(
    snapshot: Snapshot,
    mut record: Record,
    network: &NetworkOptions,
    scene: Scene,
) -> Result<Created, Error> {
    let inherited = Inherited::look();
    residence::share_one_heap();
    kvm::check()?;
    let (image, lock) = scene.refresh(&mut record)?;
    snapshot.check(&image, &scene.places)?;
    let containers = Containers::of(&scene.places);
    let networks = Networks::open(&scene.places);
    let join = |record: &mut Record| networks.join(record, network);
    let (home, record) = containers.register()?.create(record, join)?;
    containers.events().add(&[of_container(&record, "create", &[])]);
    let snapshot = Some(snapshot);
    Ok(Created { home, record, image, lock, containers, scene, inherited, snapshot })
}

/// Starts a container that was created, or that has ended. One that runs already is left as it is,
/// and whoever wants to is attached to it. To be called while this process has one thread.
///
/// # Errors
/// When there is no such container, its image is gone, or it cannot be started.
pub fn start(
    words: &str,
    places: &Places,
    attendance: &Attendance,
    debug: bool,
) -> Result<Outcome, Error> {
    let (inherited, stopwatch) = (Inherited::look(), Stopwatch::start());
    residence::share_one_heap();
    let containers = Containers::of(places);
    let claim = containers.claim(words)?;
    let (home, found) = match claim {
        Claim::Ours(home, found) => (home, *found),
        Claim::Taken(_) if *attendance == Attendance::Away => {
            return Ok(Outcome { code: 0, clocks: Clocks::default() });
        }
        Claim::Taken(found) => return crate::control::attach_to(&containers, &found, attendance),
    };
    let Found { mut record, state, .. } = found;
    let scene = Scene { places: places.clone(), debug };
    let (image, lock) = match scene.refresh(&mut record) {
        Ok(image) => image,
        Err(error) => {
            give_back(&containers, home, &record, state);
            return Err(error);
        }
    };
    let containers = &containers;
    let launch = Launch { containers, image: &image, attendance, stopwatch, scene, inherited };
    launch.run(home, lock, record, state)
}

/// The image from the store, or from a registry first.
fn find_or_pull(store: &Store, spec: &RunSpec, places: &Places) -> Result<Image, Error> {
    let name = &spec.image;
    match (store.find(name), spec.pull) {
        (_, PullPolicy::Always) => {}
        (Err(images::Error::UnknownImage { .. }), PullPolicy::Missing) => {
            tell(format_args!("Unable to find image '{name}' locally"));
        }
        (found, _) => return Ok(found?),
    }
    pull(name, places)?;
    Ok(store.find(name)?)
}

/// A container that could not be started is as it was before, unless it was to be removed, or to go on from a
/// snapshot.
fn give_back(containers: &Containers, home: Home, record: &Record, state: State) {
    let is_unbegun_copy = record.copy_of.is_some() && state.started.is_none();
    if record.keeping.auto_remove || is_unbegun_copy {
        home.remove(record);
        return containers.events().add(&[of_container(record, "destroy", &[])]);
    }
    // What is not written now is found out by the next who looks.
    let _ = home.write_state(&state);
}

impl Created {
    /// Its id, of 64 digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Leaves it to be started later.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn keep(self) -> Result<(), Error> {
        self.home.write_state(&State::new(Status::Created))
    }

    /// Takes it back.
    pub fn discard(self) {
        self.home.remove(&self.record);
        self.containers.events().add(&[of_container(&self.record, "destroy", &[])]);
    }

    /// Starts it. To be called while this process has one thread.
    ///
    /// # Errors
    /// When it cannot be started; it stays then, unless it was to be removed, or goes on from a snapshot.
    pub fn start(self, attendance: &Attendance, stopwatch: Stopwatch) -> Result<Outcome, Error> {
        let Self { home, record, image, lock, containers, scene, inherited, snapshot } = self;
        let containers = &containers;
        let launch = Launch { containers, image: &image, attendance, stopwatch, scene, inherited };
        match snapshot {
            Some(snapshot) => launch.go_on(home, lock, &record, &snapshot),
            None => launch.run(home, lock, record, State::new(Status::Created)),
        }
    }
}

/// All that is known before a container is started.
struct Launch<'a> {
    containers: &'a Containers,
    image: &'a Image,
    attendance: &'a Attendance,
    stopwatch: Stopwatch,
    scene: Scene,
    inherited: Inherited,
}

impl Launch<'_> {
    /// Starts it in a machine that goes on from a template, or that boots and becomes one.
    fn run(
        &self,
        home: Home,
        lock: ImageLock,
        record: Record,
        state: State,
    ) -> Result<Outcome, Error> {
        let (templates, wanted) = match kvm::check().and_then(|()| self.scene.template(&record)) {
            Ok(found) => found,
            Err(error) => {
                give_back(self.containers, home, &record, state);
                return Err(error);
            }
        };
        let id = record.id.clone();
        let choice =
            Choice { templates: &templates, wanted: wanted.as_ref(), resort: Resort::Image };
        let outcome = self.attempt_all((home, lock), &record, &state, choice);
        if matches!(outcome, Err(Error::SupervisorDied)) {
            // Who looks finds out, and puts it right.
            let _ = self.containers.look_again(&id);
        }
        outcome.map_err(ask_the_host)
    }

    /// Goes on where a snapshot was taken. A container that does not begin so is no container.
    fn go_on(
        &self,
        home: Home,
        lock: ImageLock,
        record: &Record,
        snapshot: &Snapshot,
    ) -> Result<Outcome, Error> {
        let prepare = |home: &Home| self.scene.prepare_copy(home, record, self.image, snapshot);
        let state = State::new(Status::Created);
        let (_, outcome) = self.attempt((home, lock), record, &state, prepare);
        let error = match outcome {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        let left = self.containers.look_again(&record.id)?;
        if let Some(found) = left.filter(|found| found.state.started.is_none()) {
            remove(self.containers, &found, Removal::Forced)?;
        }
        Err(match ask_the_host(error) {
            Error::Supervised(failure) => snapshot.not_restored(failure.message),
            error => error,
        })
    }

    /// Tries with the best template there is; what that has spoilt with the next, and at last by a boot.
    fn attempt_all(
        &self,
        mut held: (Home, ImageLock),
        record: &Record,
        state: &State,
        mut choice: Choice<'_>,
    ) -> Result<Outcome, Error> {
        loop {
            let prepare = |home: &Home| self.scene.prepare(home, record, self.image, choice);
            let (origin, failure) = match self.attempt(held, record, state, prepare) {
                (Some(origin), Err(Error::Supervised(failure)))
                    if failure.blame == Blame::Template =>
                {
                    (origin, failure)
                }
                (_, outcome) => return outcome,
            };
            choice.templates.set_aside(&origin.key);
            let instead;
            (choice.resort, instead) = match origin.image {
                Some(_) => (Resort::Shape, "going on from another"),
                None => (Resort::Boot, "booting instead"),
            };
            say("warning", format_args!("{}; {instead}", failure.message));
            held = self.claim_again(record)?;
            if origin.image.is_some() {
                // Nothing of the container has happened in it.
                held.0.remove_overlay();
            }
        }
    }

    /// The container once more, whose supervisor has let go of it.
    fn claim_again(&self, record: &Record) -> Result<(Home, ImageLock), Error> {
        match self.containers.claim(&record.id)? {
            Claim::Ours(home, _) => Ok((home, self.image.lock()?)),
            Claim::Taken(found) => {
                let (name, state) = (found.record.name, found.state.status);
                Err(Error::StillRunning { name, state })
            }
        }
    }

    /// Tries once; tells also which template that went on from.
    fn attempt(
        &self,
        (home, lock): (Home, ImageLock),
        record: &Record,
        state: &State,
        prepare: impl FnOnce(&Home) -> Result<Prepared, Error>,
    ) -> (Option<Wanted>, Result<Outcome, Error>) {
        let links = Link::pair()
            .map_err(|source| Error::System { action: "make a pair of sockets", source });
        let prepared = links.and_then(|links| {
            let entrance = entrance_of(record)?;
            Ok((prepare(&home)?, entrance, links))
        });
        let (prepared, entrance, (near, far)) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                give_back(self.containers, home, record, state.clone());
                return (None, Err(error));
            }
        };
        let (origin, lacks) = (prepared.origin.clone(), prepared.lacks);
        let task = Task {
            home,
            record: self.sized(record),
            state: state.clone(),
            prepared,
            scene: self.scene.clone(),
            image: lock,
            entrance,
            starter: far,
            attachment: attachment(self.attendance),
            patience: patience(),
            stopwatch: self.stopwatch,
            inherited: self.inherited.clone(),
        };
        let outcome = self.carry_out(task, near, record);
        // The first machine of all has just become a template itself.
        if let (Some(_), Some(journal), Ok(_)) = (&origin, lacks, &outcome) {
            build_aside(record, journal, &self.scene.places);
        }
        (origin, outcome)
    }

    /// Starts the supervisor, and is with the container as long as that is wanted.
    fn carry_out(&self, task: Task, near: Link, record: &Record) -> Result<Outcome, Error> {
        let (supervisor, link) = fork_supervisor(task, near)?;
        let attached = attach(link, self.attendance, subject(record), self.stopwatch);
        // One that is started again is looked after as long as that goes on.
        if record.keeping.restart == RestartPolicy::No {
            reap_ended(supervisor, &attached);
        }
        let Attached { code, mut clocks, .. } = attached?;
        clocks.total = Some(self.stopwatch.elapsed());
        Ok(Outcome { code, clocks })
    }

    /// The program's terminal is as large as that of whoever is there.
    fn sized(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if let Some(size) = &mut record.container.process.terminal {
            let there = matches!(self.attendance, Attendance::Here(_)).then(terminal_size);
            *size = there.flatten().unwrap_or(UNSEEN_SIZE);
        }
        record
    }
}

/// What of the host is to lead to a container; nothing to one that cannot be reached.
fn entrance_of(record: &Record) -> Result<Entrance, Error> {
    let wanted = record.ports.publications();
    if record.goes_by_passt() {
        // They are free, and passt takes them once these are closed: it opens its own.
        let doors = open_doors(&user::publications(wanted))?;
        let ports: Vec<_> = doors.iter().map(|door| door.published).collect();
        user::passt::check_ports(&ports)?;
        return Ok(Entrance { by_passt: ports, ..Entrance::default() });
    }
    // One that is on no network now may be connected later.
    let is_alone = record.network_mode == NO_NETWORK;
    let doors = if is_alone { Vec::new() } else { open_doors(&wanted)? };
    Ok(Entrance { doors, ..Entrance::default() })
}

fn attachment(attendance: &Attendance) -> Attachment {
    match attendance {
        Attendance::Away => Attachment::None,
        Attendance::Here(presence) if presence.input => Attachment::Both,
        Attendance::Here(_) => Attachment::Output,
    }
}

fn subject(record: &Record) -> Subject {
    Subject {
        terminal: record.container.process.terminal.is_some(),
        owns_output: true,
        owns_input: record.keeping.input_once,
    }
}

/// The name a person knows the image by: their own words, or the image's first name when they
/// gave an id.
fn image_name(words: &str, image: &Image) -> String {
    let by_id = image.id.hex().starts_with(words.trim_start_matches("sha256:"));
    match image.references.first() {
        Some(reference) if by_id => reference.familiar(),
        None if by_id => image.id.short(),
        _ => words.to_owned(),
    }
}

/// Forks the supervisor; each side keeps its own end of the link.
fn fork_supervisor(task: Task, near: Link) -> Result<(Independent, Link), Error> {
    let near = Cell::new(Some(near));
    let theirs = &near;
    residence::trim_heap();
    let supervisor = Independent::fork(move || {
        drop(theirs.take());
        supervise(task)
    })
    .map_err(|source| Error::System { action: "start the container's supervisor", source })?;
    let near = near.take().expect("only the child has taken it");
    Ok((supervisor, near))
}

/// Reaps the supervisor of a container that has ended.
fn reap_ended(supervisor: Independent, attached: &Result<Attached, Error>) {
    if attached.as_ref().map_or(true, |attached| attached.has_ended) {
        supervisor.reap_within(FAREWELL);
    }
}

/// A machine that failed may have failed because of this host.
pub(crate) fn ask_the_host(error: Error) -> Error {
    match &error {
        Error::Supervised(failure) if failure.blame == Blame::Machine => {
            vmm::selftest::run().map_or_else(Error::Unfit, |()| error)
        }
        _ => error,
    }
}

/// How long a guest may take to get ready.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| *seconds > 0).map_or(DEFAULT_PATIENCE, Duration::from_secs)
}
