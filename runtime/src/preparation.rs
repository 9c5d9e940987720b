//! Opens all that a container's machine is made of: for its first start, and for each one after it.

use std::fs::File;
use std::path::Path;

use images::{Image, ImageLock, Store};
use vmm::config::{BootFiles, DiskExtent, Start};

use crate::containers::{Home, OVERLAY, Record};
use crate::error::Error;
use crate::guest_files::{find_agent, find_kernel};
use crate::host;
use crate::places::Places;
use crate::scratch::Scratch;
use crate::supervisor::MachineParts;
use crate::templates::{Templates, Unexplored, Unfinished, Wanted};
use crate::voice::say;

/// What every start of a container depends on beside the container.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// Where images, templates and blank disks are.
    pub(crate) places: Places,
    /// Whether the guest's kernel speaks, and so boots.
    pub(crate) debug: bool,
}

/// What a supervisor needs of a machine, open.
pub(crate) struct Prepared {
    /// What it is made of.
    pub(crate) machine: MachineParts,
    /// The template that it is saved as.
    pub(crate) template: Option<Unfinished>,
    /// The template that it goes on from, if more is to be learnt about it.
    pub(crate) unexplored: Option<Unexplored>,
}

impl Scene {
    /// Where templates are, and which one is for this container, unless it shall boot.
    pub(crate) fn template(&self, record: &Record) -> Result<(Templates, Option<Wanted>), Error> {
        let templates = Templates::new(self.places.templates());
        if self.debug || !record.template {
            return Ok((templates, None));
        }
        Ok((templates, Some(Wanted::of(record.vm)?)))
    }

    /// What was true of the host when the container was created, or started last, need not be true any
    /// more; and no two starts have the same entropy.
    pub(crate) fn refresh(&self, record: &mut Record) -> Result<(Image, ImageLock), Error> {
        let store = Store::open(&self.places.images()).map_err(images::Error::from)?;
        let image = store.find(&record.image_id)?;
        let lock = image.lock()?;
        let host = host::look()?;
        record.container.entropy = *host.random.first_chunk().expect("40 bytes hold 32");
        record.container.etc.resolv_conf = host.resolv_conf;
        Ok((image, lock))
    }

    /// Opens all that a container is made of.
    pub(crate) fn prepare(
        &self,
        home: &Home,
        record: &Record,
        image: &Image,
        (templates, wanted): (&Templates, Option<&Wanted>),
    ) -> Result<Prepared, Error> {
        let disk = open_disk(image)?;
        let blanks = self.places.scratch();
        let overlay = home.path().join(OVERLAY);
        // Files may have been put into it before its first start.
        let scratch = if record.keeping.auto_remove && !overlay.exists() {
            Scratch::fleeting(&blanks, record.scratch)?
        } else {
            Scratch::lasting(&blanks, &overlay, record.scratch)?
        };
        // Last: what has begun is the supervisor's to end.
        let Beginning { start, unfinished, unexplored } = begin(templates, wanted)?;
        let machine = MachineParts {
            shape: record.vm,
            host: record.host.clone(),
            container: Some((record.id.clone(), record.container.limits.clone())),
            start,
            save: unfinished.as_ref().and_then(|template| template.files().ok()),
            image: disk,
            scratch,
            trace: self.debug,
        };
        Ok(Prepared { machine, template: unfinished, unexplored })
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

/// The image's disk, open.
pub(crate) fn open_disk(image: &Image) -> Result<Vec<DiskExtent>, Error> {
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
