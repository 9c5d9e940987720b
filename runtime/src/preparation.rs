//! Opens all that a container's machine is made of: for its first start, and for each one after it.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use images::{Image, ImageLock, Store};
use protocol::Interface;
use vmm::config::{BootFiles, DiskExtent, KernelFile, NetBackend, NetConfig, Ring, Save, Start};

use crate::containers::{Home, Record};
use crate::error::Error;
use crate::guest_files::{find_agent, find_kernel};
use crate::host;
use crate::limits::ScratchSize;
use crate::network::user::{UserWay, passt::Errand};
use crate::network::{Carrier, Connection, Networks};
use crate::places::Places;
use crate::plan::VmConfig;
use crate::scratch::{Ground, Journal, OWN_BLANK, Scratch};
use crate::snapshots::{Files, Snapshot};
use crate::supervisor::MachineParts;
use crate::templates::{Template, Templates, Unfinished, Wanted};
use crate::voice::say;
use crate::working_set::Unexplored;

/// The environment variable that keeps boots from sharing a kernel's code.
const PREPARED_VARIABLE: &str = "HYPERRUN_PREPARED_KERNEL";

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
    /// What it is connected with.
    pub(crate) links: Links,
    /// The template that it is saved as.
    pub(crate) template: Option<Unfinished>,
    /// The template that it goes on from, if more is to be learnt about it.
    pub(crate) unexplored: Option<Unexplored>,
    /// The template that it goes on from, or whose kernel it boots, if it does.
    pub(crate) origin: Option<Wanted>,
    /// For which disk a template of its image would have served, if there is none.
    pub(crate) lacks: Option<Journal>,
    /// Whether the container is in it already, and takes this one's place.
    pub(crate) adopts: bool,
}

/// What a container is connected with.
#[derive(Default)]
pub(crate) struct Links {
    /// Its interfaces.
    pub(crate) interfaces: Vec<Interface>,
    /// Where it asks for names.
    pub(crate) resolvers: Vec<IpAddr>,
    /// Where it reaches the host.
    pub(crate) host: Option<IpAddr>,
    /// What passt is to do, if its frames are passt's to carry.
    pub(crate) errand: Option<Errand>,
    /// Who carries its frames, if it has any.
    pub(crate) carrier: Option<Carrier>,
}

/// Which templates there are for a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    /// All of them.
    pub(crate) templates: &'a Templates,
    /// The one for all images; none where the machine shall boot.
    pub(crate) wanted: Option<&'a Wanted>,
    /// The best that may be taken.
    pub(crate) resort: Resort,
}

/// What a start may go on from: this, or what stands below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resort {
    /// The template of its image.
    Image,
    /// The template that serves all images.
    Shape,
    /// A boot, of which nothing is kept.
    Boot,
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
        record.container.etc.resolv_conf = record.dns.resolv_conf(&host.resolv_conf, &[]);
        Ok((image, lock))
    }

    /// Opens all that a container is made of.
    pub(crate) fn prepare(
        &self,
        home: &Home,
        record: &Record,
        image: &Image,
        choice: Choice<'_>,
    ) -> Result<Prepared, Error> {
        let Choice { templates, wanted, resort } = choice;
        let disk = open_disk(image)?;
        let mut scratch = Scratch::of(record, home.path(), &self.places.scratch())?;
        let (nets, links) = connect(&Networks::open(&self.places), record)?;
        let wanted = wanted.filter(|_| resort != Resort::Boot);
        let special = wanted.filter(|_| resort == Resort::Image && begins_afresh(&scratch));
        // What cannot be looked at has no template.
        let special = special.and_then(|one| one.with_image(image.id, &disk, &scratch.blank).ok());
        let found =
            special.as_ref().and_then(|wanted| find_filled(templates, wanted, &mut scratch));
        let lacks = (special.is_some() && found.is_none()).then_some(scratch.blank.journal);
        // Last: what has begun is the supervisor's to end.
        let beginning = match found {
            Some(template) => Beginning::copy(template, special.expect("it was found"))?,
            None if wanted.is_some() || resort == Resort::Boot => begin(templates, wanted)?,
            None => self.boot_prepared(templates, record.vm)?,
        };
        let Beginning { start, unfinished, unexplored, origin } = beginning;
        let files = unfinished.as_ref().and_then(|template| template.files().ok());
        let save = files.map(|files| Save { files, ring: Ring::First });
        let machine = MachineParts { save, nets, ..self.machine(record, start, disk, scratch) };
        let (template, adopts) = (unfinished, false);
        Ok(Prepared { machine, links, template, unexplored, origin, lacks, adopts })
    }

    /// A boot that nothing is kept of, with the kernel as the machine of the template has prepared it, if there is
    /// one. What the kernel says is of one that prepares itself.
    fn boot_prepared(&self, templates: &Templates, shape: VmConfig) -> Result<Beginning, Error> {
        if self.debug || is_never(PREPARED_VARIABLE) {
            return begin(templates, None);
        }
        let wanted = Wanted::of(shape)?;
        let Some(kernel) = templates.kernel(&wanted) else { return begin(templates, None) };
        let start = boot_from(KernelFile::Prepared(kernel))?;
        Ok(Beginning { start, unfinished: None, unexplored: None, origin: Some(wanted) })
    }

    /// Opens all that a container is made of that goes on where a snapshot was taken.
    pub(crate) fn prepare_copy(
        &self,
        home: &Home,
        record: &Record,
        image: &Image,
        snapshot: &Snapshot,
    ) -> Result<Prepared, Error> {
        let disk = open_disk(image)?;
        let Files { machine, scratch: saved } = snapshot.open()?;
        if record.ground == Ground::Own {
            snapshot.share_blank(&home.path().join(OWN_BLANK))?;
        }
        let mut scratch = Scratch::of(record, home.path(), &self.places.scratch())?;
        let failed = |source| Error::System { action: "copy the snapshot's disk", source };
        scratch.resemble(&saved).map_err(failed)?;
        let (nets, links) = connect(&Networks::open(&self.places), record)?;
        let failed = |source| Error::System { action: "open a snapshot", source };
        let (working_set, unexplored) = snapshot.known(&machine).map_err(failed)?;
        let start = Start::Restore { files: machine, working_set };
        Ok(Prepared {
            machine: MachineParts { nets, ..self.machine(record, start, disk, scratch) },
            links,
            template: None,
            unexplored,
            origin: None,
            lacks: None,
            adopts: true,
        })
    }

    /// A container's machine, without networks.
    fn machine(
        &self,
        record: &Record,
        start: Start,
        image: Vec<DiskExtent>,
        scratch: Scratch,
    ) -> MachineParts {
        MachineParts {
            shape: record.vm,
            host: record.host.clone(),
            container: Some((record.id.clone(), record.container.limits.clone())),
            start,
            save: None,
            image,
            scratch,
            nets: Vec::new(),
            trace: self.debug,
        }
    }
}

/// The host's ends of what a container is connected with, and what it sees of the others.
fn connect(networks: &Networks, record: &Record) -> Result<(Vec<NetConfig>, Links), Error> {
    if record.goes_by_passt() {
        return connect_by_passt(record);
    }
    let (mut nets, mut links) = (Vec::new(), Links::default());
    for Connection { tap, vhost, interface, resolver } in networks.connect(record)? {
        let backend = NetBackend::Tap(tap);
        links.carrier = Some(Carrier::of(vhost.as_ref()));
        nets.push(NetConfig { backend, vhost, limits: record.host.net_limits() });
        links.interfaces.push(interface);
        links.resolvers.push(resolver.into());
    }
    links.host = links.resolvers.first().copied();
    Ok((nets, links))
}

fn connect_by_passt(record: &Record) -> Result<(Vec<NetConfig>, Links), Error> {
    let failed = |source| Error::System { action: "make a pair of sockets", source };
    let way = UserWay::open(&record.container.etc.resolv_conf).map_err(failed)?;
    let UserWay { machine, interface, resolvers, host, errand } = way;
    let (backend, limits) = (NetBackend::Stream(machine), record.host.net_limits());
    let net = NetConfig { backend, vhost: None, limits };
    let (interfaces, carrier) = (vec![interface], Some(Carrier::Passt));
    let errand = Some(errand);
    let links = Links { interfaces, resolvers, host, errand, carrier };
    Ok((vec![net], links))
}

/// Whether a machine in which an image is prepared serves a container with this writable disk: the one
/// that it has mounted has the usual size, and nothing of any container in it.
fn begins_afresh(scratch: &Scratch) -> bool {
    scratch.blank.size == ScratchSize::DEFAULT && scratch.is_new()
}

/// The template of an image, if it is there, with the writable disk made what its own was.
fn find_filled(templates: &Templates, wanted: &Wanted, scratch: &mut Scratch) -> Option<Template> {
    let template = templates.find(wanted)?;
    let Err(error) = template.fill(scratch) else { return Some(template) };
    say("warning", format_args!("the image's template is broken: {error}; going on from another"));
    templates.set_aside(&wanted.key);
    None
}

/// How a machine starts, and what becomes of templates on the way.
struct Beginning {
    start: Start,
    unfinished: Option<Unfinished>,
    unexplored: Option<Unexplored>,
    origin: Option<Wanted>,
}

impl Beginning {
    fn copy(template: Template, wanted: Wanted) -> Result<Self, Error> {
        let failed = |source| Error::System { action: "open a template", source };
        let (start, unexplored) = template.start().map_err(failed)?;
        Ok(Self { start, unfinished: None, unexplored, origin: Some(wanted) })
    }
}

/// From the template that is wanted; or by a boot, which makes it.
fn begin(templates: &Templates, wanted: Option<&Wanted>) -> Result<Beginning, Error> {
    if let Some((wanted, template)) = wanted.and_then(|one| Some((one, templates.find(one)?))) {
        return Beginning::copy(template, wanted.clone());
    }
    let start = boot()?;
    let unfinished = wanted.map_or(Ok(None), |wanted| templates.begin(wanted));
    let unfinished = unfinished.unwrap_or_else(|error| {
        // A folder that cannot be written makes starts slow, not impossible.
        say("warning", format_args!("no template can be made: {error}"));
        None
    });
    Ok(Beginning { start, unfinished, unexplored: None, origin: None })
}

/// Whether an environment variable says that something is never to be done.
pub(crate) fn is_never(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|when| when == "never")
}

/// From the guest's kernel and the agent.
pub(crate) fn boot() -> Result<Start, Error> {
    boot_from(KernelFile::Plain(open(&find_kernel()?.path)?))
}

fn boot_from(kernel: KernelFile) -> Result<Start, Error> {
    let initramfs = Some(open(&find_agent()?.path)?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_a_new_disk_of_the_usual_size_can_begin_where_an_image_was_prepared() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = |size| Scratch::fleeting(folder.path(), size).unwrap();
        let mut usual = scratch(ScratchSize::DEFAULT);
        assert!(begins_afresh(&usual));
        usual.overlay.write_all(b"x").unwrap();
        assert!(!begins_afresh(&usual));
        assert!(!begins_afresh(&scratch("64m".parse().unwrap())));
    }
}
