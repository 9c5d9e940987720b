//! Runs a container from words to exit status: image, plan, files, supervisor, and the person
//! attached to it.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use images::{Image, Store};
use vmm::config::{BootFiles, DiskExtent, Start};
use vmm::process::Inherited;
use vmm::residence;

use crate::attach::{Attached, attach};
use crate::containers::{self, Container};
use crate::error::Error;
use crate::guest_files::{find_agent, find_kernel};
use crate::link::{Blame, Link};
use crate::places::Places;
use crate::plan::{Plan, PlannedImage, plan};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::spec::{PullPolicy, RunSpec, TemplateUse};
use crate::supervisor::{MachineParts, Task, supervise};
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

/// How a container's life ended.
#[derive(Debug)]
pub struct Outcome {
    /// The code to exit with: the program's own, or 128 and its signal.
    pub code: u8,
    /// When things happened.
    pub clocks: Clocks,
}

/// Runs one container and stays attached until it is gone. To be called while this process has
/// one thread.
pub fn run(spec: &RunSpec, places: &Places, stopwatch: Stopwatch) -> Result<Outcome, Error> {
    let inherited = Inherited::look();
    residence::share_one_heap();
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    let image = find_or_pull(&store, spec, places)?;
    let name = image_name(&spec.image, &image);
    let planned = PlannedImage { name: &name, config: &image.config };
    let plan = plan(spec, planned, &host::look()?)?;
    plan.warnings.iter().for_each(|warning| say("warning", warning));
    kvm::check()?;
    let launch =
        Launch { spec, places, image: &image, name: &name, plan: &plan, stopwatch, inherited };
    let (templates, wanted) = launch.template()?;
    let outcome = match launch.run(&templates, wanted.as_ref()) {
        Err(Error::Supervised(failure)) if failure.blame == Blame::Template => {
            say("warning", format_args!("{}; booting instead", failure.message));
            wanted.iter().for_each(|wanted| templates.set_aside(&wanted.key));
            launch.run(&templates, None)
        }
        outcome => outcome,
    };
    outcome.map_err(ask_the_host)
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

/// All that is decided about a container before its machine is made.
struct Launch<'a> {
    spec: &'a RunSpec,
    places: &'a Places,
    image: &'a Image,
    name: &'a str,
    plan: &'a Plan,
    stopwatch: Stopwatch,
    inherited: Inherited,
}

impl Launch<'_> {
    /// Where templates are, and which one is for this container, unless it shall boot.
    fn template(&self) -> Result<(Templates, Option<Wanted>), Error> {
        let templates = Templates::new(self.places.templates());
        if self.spec.debug || self.spec.template == TemplateUse::Never {
            return Ok((templates, None));
        }
        Ok((templates, Some(Wanted::of(self.plan.vm)?)))
    }

    /// Runs it in a machine that goes on from a template, or that boots and becomes one.
    fn run(&self, templates: &Templates, wanted: Option<&Wanted>) -> Result<Outcome, Error> {
        let (near, far) = Link::pair()
            .map_err(|source| Error::System { action: "make a pair of sockets", source })?;
        let containers = self.places.containers();
        let outcome = Container::create(&containers, self.spec.name.as_ref(), self.name)
            .and_then(|container| self.prepare(container, far, templates, wanted))
            .and_then(|task| start(task, near))
            .and_then(|(supervisor, link)| follow(supervisor, link, self.spec, self.stopwatch));
        if matches!(outcome, Err(Error::SupervisorDied | Error::File { .. } | Error::System { .. }))
        {
            // Nobody else cleans up after these; what fails here the next run does.
            let _ = containers::sweep_dead(&containers);
        }
        outcome
    }

    /// Opens all that a container is made of.
    fn prepare(
        &self,
        container: Container,
        link: Link,
        templates: &Templates,
        wanted: Option<&Wanted>,
    ) -> Result<Task, Error> {
        let image = self.image.lock()?;
        let (disk, scratch) = (open_disk(self.image)?, Scratch::create(&self.places.scratch())?);
        // Last: what has begun is the supervisor's to end.
        let Beginning { start, unfinished, unexplored } = begin(templates, wanted)?;
        let machine = MachineParts {
            shape: self.plan.vm,
            start,
            save: unfinished.as_ref().and_then(|template| template.files().ok()),
            image: disk,
            scratch,
            trace: self.spec.debug,
        };
        Ok(Task {
            container,
            spec: self.plan.container.clone(),
            machine,
            template: unfinished,
            unexplored,
            image,
            link,
            patience: patience(),
            stopwatch: self.stopwatch,
            inherited: self.inherited.clone(),
        })
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
fn start(task: Task, near: Link) -> Result<(Process, Link), Error> {
    let near = Cell::new(Some(near));
    let theirs = &near;
    residence::trim_heap();
    let supervisor = Process::fork(move || {
        drop(theirs.take());
        supervise(task)
    })
    .map_err(|source| Error::System { action: "start the container's supervisor", source })?;
    let near = near.take().expect("only the child has taken it");
    Ok((supervisor, near))
}

/// Stays attached until the supervisor is done, then reaps it.
fn follow(
    supervisor: Process,
    link: Link,
    spec: &RunSpec,
    stopwatch: Stopwatch,
) -> Result<Outcome, Error> {
    let attached = attach(link, spec.stdio, stopwatch);
    supervisor.end_within(FAREWELL);
    let Attached { code, mut clocks } = attached?;
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
