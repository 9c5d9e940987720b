//! Makes templates without a container: a machine boots until its agent is ready, or has prepared an
//! image, and is saved.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use images::{Image, Store};
use protocol::Preparation;
use vmm::config::{Ring, Save};
use vmm::process::Inherited;

use crate::containers::{Containers, Record};
use crate::error::Error;
use crate::kvm;
use crate::launch::{ask_the_host, patience};
use crate::limits::ScratchSize;
use crate::options::HostLimits;
use crate::places::Places;
use crate::plan::{IMAGE_DISK, SCRATCH_DISK, SHM_BYTES, VmConfig};
use crate::preparation::{boot, is_never, open_disk};
use crate::scratch::{Blank, Journal, Scratch};
use crate::supervisor::{MachineParts, save_machine};
use crate::templates::{Templates, Unfinished, Wanted};

/// The environment variable that says whether runs have templates of their images made; unless it says never,
/// they do.
const IMAGES_VARIABLE: &str = "HYPERRUN_IMAGE_TEMPLATES";
/// The largest niceness (setpriority(2)).
const LEAST_PRIORITY: i32 = 19;

/// Makes the template of this shape, unless it is there; gives its name. To be called while this
/// process has one thread.
///
/// # Errors
/// When no machine can be booted or saved, or the folder of templates not be written.
pub fn build_template(shape: VmConfig, places: &Places) -> Result<String, Error> {
    kvm::check()?;
    let wanted = Wanted::of(shape)?;
    build(wanted, places, |unfinished| {
        let scratch = Scratch::fleeting(&places.scratch(), ScratchSize::DEFAULT)?;
        // The agent looks at its image's disk only when it is told what to run.
        let parts = parts(unfinished, Ring::First, scratch)?;
        boot_and_save(parts, None, places)
    })
}

/// Makes the template of this shape that has an image's disks mounted, for containers that are kept or
/// for those that are not, unless it is there; gives its name. To be called while this process has one
/// thread.
///
/// # Errors
/// When there is no such image, no machine can be booted or saved, or the folder of templates not be
/// written.
pub fn build_image_template(
    words: &str,
    journal: Journal,
    shape: VmConfig,
    places: &Places,
) -> Result<String, Error> {
    kvm::check()?;
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    let image = store.find(words)?;
    let disk = || {
        // Once its files are open it may go: nobody waits for this.
        let _lock = image.lock()?;
        open_disk(&image)
    };
    let failed = |source| Error::System { action: "look at an image's disk", source };
    let blank = || Blank::open(&places.scratch(), journal, ScratchSize::DEFAULT);
    let wanted = Wanted::of(shape)?.with_image(image.id, &disk()?, &blank()?).map_err(failed)?;
    let name = build(wanted, places, |unfinished| {
        let opened = |source| Error::System { action: "open a template", source };
        let overlay = unfinished.scratch().map_err(opened)?;
        let overlay = overlay.expect("an image's template has a writable disk");
        let scratch = Scratch { blank: blank()?, overlay, path: None };
        let mut parts = parts(unfinished, Ring::Second, scratch)?;
        parts.image = disk()?;
        boot_and_save(parts, Some(&preparation(&image)), places)
    })?;
    // It may have gone meanwhile, and with it all templates of it that were there.
    if let Err(error) = store.find(&image.id.hex()) {
        Templates::new(places.templates()).forget_image(image.id)?;
        return Err(error.into());
    }
    Ok(name)
}

/// Has such a template made by a process of its own, beside all else. What fails there is tried again by
/// the next run.
pub(crate) fn build_aside(record: &Record, journal: Journal, places: &Places) {
    if is_never(IMAGES_VARIABLE) {
        return;
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0("hyperrun").arg("--root").arg(&places.data);
    command.args(["template", "build", "--aside", "--image", &record.image_id]);
    command.arg("-m").arg(format!("{}m", record.vm.memory_mib));
    command.arg("--cpus").arg(record.vm.vcpus.to_string());
    if journal == Journal::Without {
        command.arg("--rm");
    }
    // Whoever starts this ends soon, and somebody else collects it.
    drop(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn());
}

/// Makes the calling process one that nobody waits for, and that takes what others leave of the processors.
///
/// # Errors
/// When it leads others.
pub fn stand_aside() -> Result<(), Error> {
    let failed = |source: rustix::io::Errno| {
        let source = source.into();
        Error::System { action: "leave the terminal", source }
    };
    Inherited::look().close();
    rustix::process::setsid().map_err(failed)?;
    // A host that does not let it is only busier.
    let _ = rustix::process::setpriority_process(None, LEAST_PRIORITY);
    Ok(())
}

/// Makes a template in the way that `make` has, unless somebody else has made it or does.
fn build(
    wanted: Wanted,
    places: &Places,
    make: impl Fn(&Unfinished) -> Result<(), Error>,
) -> Result<String, Error> {
    let templates = Templates::new(places.templates());
    let failed =
        |source| Error::File { action: "make a template in", path: places.templates(), source };
    while templates.find(&wanted).is_none() {
        let Some(unfinished) = templates.begin(&wanted).map_err(failed)? else {
            templates.await_other(&wanted.key).map_err(failed)?;
            continue;
        };
        if let Err(error) = make(&unfinished) {
            unfinished.discard();
            return Err(error);
        }
        unfinished.publish().map_err(failed)?;
    }
    Ok(wanted.key)
}

/// A machine as every container's, but with nothing on its image's disk.
fn parts(unfinished: &Unfinished, ring: Ring, scratch: Scratch) -> Result<MachineParts, Error> {
    let failed = |source| Error::System { action: "open a template", source };
    Ok(MachineParts {
        shape: unfinished.shape(),
        host: HostLimits::default(),
        container: None,
        start: boot()?,
        save: Some(Save { files: unfinished.files().map_err(failed)?, ring }),
        image: Vec::new(),
        scratch,
        nets: Vec::new(),
        trace: false,
    })
}

/// Boots a machine, saves it and ends it. Its folder lies among those of containers, so that the next
/// one that is made removes it when this process is killed.
fn boot_and_save(
    parts: MachineParts,
    preparation: Option<&Preparation>,
    places: &Places,
) -> Result<(), Error> {
    let home = Containers::of(places).register()?.machine()?;
    let saved = save_machine(parts, &home.folder, preparation, patience());
    home.remove_machine();
    saved.map_err(|failure| ask_the_host(Error::Supervised(failure)))
}

/// What an agent needs to know of an image.
fn preparation(image: &Image) -> Preparation {
    let config = &image.config;
    let words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten());
    let program = words.map(String::as_str).next().unwrap_or_default();
    let path = config.env.iter().find_map(|line| line.strip_prefix("PATH="));
    Preparation {
        image_disk: IMAGE_DISK,
        scratch_disk: SCRATCH_DISK,
        shm_bytes: SHM_BYTES,
        program: program.into(),
        path: path.unwrap_or_default().into(),
    }
}
