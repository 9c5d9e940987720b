//! Creates containers and starts them: image, plan, record, files, supervisor, and whoever is with it.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use images::{Image, ImageLock, Store};
use protocol::WindowSize;
use vmm::config::{BootFiles, DiskExtent, Start};
use vmm::process::Inherited;
use vmm::residence;

use crate::attach::{Attached, Attendance, Subject, attach, terminal_size};
use crate::containers::{Claim, Containers, Found, Home, OVERLAY, Record, State, Status};
use crate::error::Error;
use crate::guest_files::{find_agent, find_kernel};
use crate::keeping::Keeping;
use crate::link::{Blame, Link};
use crate::places::Places;
use crate::plan::{Plan, PlannedImage, plan};
use crate::process::Independent;
use crate::record_of::record_of;
use crate::scratch::Scratch;
use crate::spec::{PullPolicy, RunSpec};
use crate::supervisor::{Attachment, MachineParts, Task, supervise};
use crate::templates::{Templates, Unexplored, Unfinished, Wanted};
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
}

/// What every start of a container depends on beside the container.
#[derive(Clone, Debug)]
struct Scene {
    places: Places,
    inherited: Inherited,
    debug: bool,
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
    let (home, record) = containers.register()?.create(record)?;
    let scene = Scene { places: places.clone(), inherited, debug: spec.debug };
    Ok(Created { home, record, image, lock, containers, scene })
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
    let claim = containers.register()?.claim(words)?;
    let (home, found) = match claim {
        Claim::Ours(home, found) => (home, *found),
        Claim::Taken(_) if *attendance == Attendance::Away => {
            return Ok(Outcome { code: 0, clocks: Clocks::default() });
        }
        Claim::Taken(found) => return crate::control::attach_to(&containers, &found, attendance),
    };
    let Found { mut record, state, .. } = found;
    let refreshed = refresh(&mut record, places);
    let (image, lock) = match refreshed {
        Ok(image) => image,
        Err(error) => {
            give_back(home, &record, state);
            return Err(error);
        }
    };
    let scene = Scene { places: places.clone(), inherited, debug };
    let launch = Launch { containers: &containers, image: &image, attendance, stopwatch, scene };
    launch.run(home, lock, record, state)
}

/// What was true of the host when the container was created need not be true any more.
fn refresh(record: &mut Record, places: &Places) -> Result<(Image, ImageLock), Error> {
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    let image = store.find(&record.image_id)?;
    let lock = image.lock()?;
    let host = host::look()?;
    record.container.entropy = *host.random.first_chunk().expect("40 bytes hold 32");
    record.container.etc.resolv_conf = host.resolv_conf;
    Ok((image, lock))
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

/// A container that could not be started is as it was before, unless it was to be removed.
fn give_back(home: Home, record: &Record, state: State) {
    if record.keeping.auto_remove {
        return home.remove();
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
        self.home.remove();
    }

    /// Starts it. To be called while this process has one thread.
    ///
    /// # Errors
    /// When it cannot be started; it stays then, unless it was to be removed.
    pub fn start(self, attendance: &Attendance, stopwatch: Stopwatch) -> Result<Outcome, Error> {
        let Self { home, record, image, lock, containers, scene } = self;
        let launch =
            Launch { containers: &containers, image: &image, attendance, stopwatch, scene };
        launch.run(home, lock, record, State::new(Status::Created))
    }
}

/// All that is known before a container is started.
struct Launch<'a> {
    containers: &'a Containers,
    image: &'a Image,
    attendance: &'a Attendance,
    stopwatch: Stopwatch,
    scene: Scene,
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
        let (templates, wanted) = match kvm::check().and_then(|()| self.template(&record)) {
            Ok(found) => found,
            Err(error) => {
                give_back(home, &record, state);
                return Err(error);
            }
        };
        let id = record.id.clone();
        let outcome = match self.attempt(home, lock, &record, &state, (&templates, wanted.as_ref()))
        {
            Err(Error::Supervised(failure)) if failure.blame == Blame::Template => {
                say("warning", format_args!("{}; booting instead", failure.message));
                wanted.iter().for_each(|wanted| templates.set_aside(&wanted.key));
                self.again(&record, &state, &templates)
            }
            outcome => outcome,
        };
        if matches!(outcome, Err(Error::SupervisorDied)) {
            // Who looks finds out, and puts it right.
            let _ = self.containers.look_again(&id);
        }
        outcome.map_err(ask_the_host)
    }

    /// Tries once more what a template has spoilt.
    fn again(
        &self,
        record: &Record,
        state: &State,
        templates: &Templates,
    ) -> Result<Outcome, Error> {
        match self.containers.register()?.claim(&record.id)? {
            Claim::Ours(home, _) => {
                let lock = self.image.lock()?;
                self.attempt(home, lock, record, state, (templates, None))
            }
            Claim::Taken(found) => {
                let (name, state) = (found.record.name, found.state.status);
                Err(Error::StillRunning { name, state })
            }
        }
    }

    /// Where templates are, and which one is for this container, unless it shall boot.
    fn template(&self, record: &Record) -> Result<(Templates, Option<Wanted>), Error> {
        let templates = Templates::new(self.scene.places.templates());
        if self.scene.debug || !record.template {
            return Ok((templates, None));
        }
        Ok((templates, Some(Wanted::of(record.vm)?)))
    }

    fn attempt(
        &self,
        home: Home,
        lock: ImageLock,
        record: &Record,
        state: &State,
        templates: (&Templates, Option<&Wanted>),
    ) -> Result<Outcome, Error> {
        let prepared = self.prepare(&home, record, templates);
        let Prepared { machine, template, unexplored, links: (near, far) } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                give_back(home, record, state.clone());
                return Err(error);
            }
        };
        let task = Task {
            home,
            record: self.sized(record),
            state: state.clone(),
            machine,
            template,
            unexplored,
            image: lock,
            starter: far,
            attachment: attachment(self.attendance),
            patience: patience(),
            stopwatch: self.stopwatch,
            inherited: self.scene.inherited.clone(),
        };
        let (supervisor, link) = fork_supervisor(task, near)?;
        follow(supervisor, link, self.attendance, subject(record), self.stopwatch)
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

    /// Opens all that a container is made of.
    fn prepare(
        &self,
        home: &Home,
        record: &Record,
        (templates, wanted): (&Templates, Option<&Wanted>),
    ) -> Result<Prepared, Error> {
        let links = Link::pair()
            .map_err(|source| Error::System { action: "make a pair of sockets", source })?;
        let disk = open_disk(self.image)?;
        let blanks = self.scene.places.scratch();
        let scratch = if record.keeping.auto_remove {
            Scratch::fleeting(&blanks)?
        } else {
            Scratch::lasting(&blanks, &home.path().join(OVERLAY))?
        };
        // Last: what has begun is the supervisor's to end.
        let Beginning { start, unfinished, unexplored } = begin(templates, wanted)?;
        let machine = MachineParts {
            shape: record.vm,
            start,
            save: unfinished.as_ref().and_then(|template| template.files().ok()),
            image: disk,
            scratch,
            trace: self.scene.debug,
        };
        Ok(Prepared { machine, template: unfinished, unexplored, links })
    }
}

/// What a supervisor needs that has to be opened.
struct Prepared {
    machine: MachineParts,
    template: Option<Unfinished>,
    unexplored: Option<Unexplored>,
    links: (Link, Link),
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

/// How a machine starts, and what becomes of templates on the way.
struct Beginning {
    start: Start,
    unfinished: Option<Unfinished>,
    unexplored: Option<Unexplored>,
}

/// From the template that is wanted; or by a boot, which makes it.
fn begin(templates: &Templates, wanted: Option<&Wanted>) -> Result<Beginning, Error> {
    if let Some(template) = wanted.and_then(|wanted| templates.find(&wanted.key)) {
        let failed = |source| Error::System { action: "open a template", source };
        let (start, unexplored) = template.start().map_err(failed)?;
        return Ok(Beginning { start, unfinished: None, unexplored });
    }
    let start = boot()?;
    let unfinished = wanted.map_or(Ok(None), |wanted| templates.begin(wanted));
    let unfinished = unfinished.unwrap_or_else(|error| {
        // A folder that cannot be written makes starts slow, not impossible.
        say("warning", format_args!("no template can be made: {error}"));
        None
    });
    Ok(Beginning { start, unfinished, unexplored: None })
}

/// From the guest's kernel and the agent.
pub(crate) fn boot() -> Result<Start, Error> {
    let (kernel, initramfs) = (open(&find_kernel()?.path)?, Some(open(&find_agent()?.path)?));
    Ok(Start::Boot(BootFiles { kernel, initramfs, command_line: String::new() }))
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

/// Stays with the container as long as it is to be stayed with; one that has ended is reaped.
fn follow(
    supervisor: Independent,
    link: Link,
    attendance: &Attendance,
    subject: Subject,
    stopwatch: Stopwatch,
) -> Result<Outcome, Error> {
    let attached = attach(link, attendance, subject, stopwatch);
    let ended = attached.as_ref().map_or(true, |attached| attached.has_ended);
    if ended {
        supervisor.reap_within(FAREWELL);
    }
    let Attached { code, mut clocks, .. } = attached?;
    clocks.total = Some(stopwatch.elapsed());
    Ok(Outcome { code, clocks })
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

fn open_disk(image: &Image) -> Result<Vec<DiskExtent>, Error> {
    let mut extents = Vec::new();
    for extent in image.disk()?.extents {
        let file = open(&extent.path)?;
        extents.push(DiskExtent { file, offset: extent.offset, length: extent.length });
    }
    Ok(extents)
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::File { action: "open", path: path.into(), source })
}

/// How long a guest may take to get ready.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| *seconds > 0).map_or(DEFAULT_PATIENCE, Duration::from_secs)
}
