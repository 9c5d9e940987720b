//! The way to a container's files: through its supervisor where it runs, in a machine that runs nothing
//! where it does not.

use std::fs::File;
use std::os::unix::net::UnixStream;

use images::ImageLock;
use protocol::FileJob;
use vmm::config::Start;
use vmm::residence;

use crate::containers::{Containers, Found, Visiting};
use crate::control::connect;
use crate::error::Error;
use crate::kvm;
use crate::launch::{ask_the_host, patience};
use crate::link::{Blame, FromSupervisor, Link, ToSupervisor};
use crate::places::Places;
use crate::preparation::{Scene, boot, open_disk};
use crate::scratch::Scratch;
use crate::supervisor::{MachineParts, Visit};
use crate::voice::say;

/// A container whose files can be got at.
pub(super) struct Access {
    pub(super) found: Found,
    way: Way,
}

enum Way {
    Supervisor,
    Machine(Box<Held>),
}

/// A machine, and what keeps others away from what it uses.
struct Held {
    visit: Visit,
    _image: ImageLock,
    _lock: File,
}

impl Access {
    /// Gets at the files of a container. To be called while this process has one thread.
    pub(super) fn to(words: &str, places: &Places) -> Result<Self, Error> {
        match Containers::of(places).visit(words)? {
            Visiting::Supervised(found) => Ok(Self { found: *found, way: Way::Supervisor }),
            Visiting::Ours(found, lock) => {
                let held = start(&found, lock, places)?;
                Ok(Self { found: *found, way: Way::Machine(Box::new(held)) })
            }
        }
    }

    /// The container's name.
    pub(super) fn name(&self) -> &str {
        &self.found.record.name
    }

    /// The most stored bytes that it can send: what is on its disks. An image's files together are taken to
    /// be no larger than a tebibyte; what it has written is bounded by its disk.
    pub(super) fn most_bytes(&self) -> u64 {
        const IMAGE_BYTES: u64 = 1 << 40;
        self.found.record.scratch.bytes().saturating_add(IMAGE_BYTES)
    }

    /// Begins with a job; its stream. A container that stands still for it does so until the stream is
    /// closed.
    pub(super) fn job(&mut self, job: &FileJob) -> Result<UnixStream, Error> {
        match &mut self.way {
            Way::Supervisor => stream_of(&connect(&self.found)?, &self.found, job),
            Way::Machine(held) => held.visit.job(job).map_err(Error::Supervised),
        }
    }

    /// Leaves what was only read.
    pub(super) fn leave(self) {
        // A machine that does not end well has sent all that was asked of it.
        let _ = self.end();
    }

    /// All that was written is on the container's disk when this returns.
    pub(super) fn end(self) -> Result<(), Error> {
        match self.way {
            Way::Supervisor => Ok(()),
            Way::Machine(held) => held.visit.end().map_err(Error::Supervised),
        }
    }
}

fn stream_of(link: &Link, found: &Found, job: &FileJob) -> Result<UnixStream, Error> {
    let name = || found.record.name.clone();
    let failed = |source| Error::Supervisor { name: name(), source };
    link.send(&ToSupervisor::Files(Box::new(job.clone()))).map_err(failed)?;
    loop {
        match link.receive::<FromSupervisor>().map_err(failed)? {
            Some((FromSupervisor::Streams(_), mut streams)) => {
                let stream = streams.pop();
                let invalid = || failed(std::io::ErrorKind::InvalidData.into());
                return stream.map(UnixStream::from).ok_or_else(invalid);
            }
            Some((FromSupervisor::Refused(reason), _)) => {
                return Err(Error::Refused { name: name(), reason });
            }
            Some(_) => {}
            None => return Err(Error::NotRunning { name: name() }),
        }
    }
}

/// Starts a machine with the container's disks, from a template where there is one.
fn start(found: &Found, lock: File, places: &Places) -> Result<Held, Error> {
    kvm::check()?;
    residence::share_one_heap();
    let mut record = found.record.clone();
    let scene = Scene { places: places.clone(), debug: false };
    let (image, image_lock) = scene.refresh(&mut record)?;
    let parts = |start: Start| -> Result<MachineParts, Error> {
        Ok(MachineParts {
            shape: record.vm,
            start,
            save: None,
            image: open_disk(&image)?,
            scratch: Scratch::lasting(&record, found.folder(), &places.scratch())?,
            nets: Vec::new(),
            trace: false,
            host: record.host.clone(),
            container: None,
        })
    };
    let begin = |start: Start| {
        let failed =
            |source| Error::File { action: "open", path: found.folder().to_owned(), source };
        let folder = File::open(found.folder()).map_err(failed)?;
        Visit::begin(parts(start)?, folder, record.container.clone(), patience())
            .map_err(Error::Supervised)
    };
    let (templates, wanted) = scene.template(&record)?;
    let copied = wanted.and_then(|wanted| {
        let (start, _) = templates.find(&wanted)?.start().ok()?;
        Some((wanted, start))
    });
    let begun = match copied {
        None => begin(boot()?),
        Some((wanted, start)) => match begin(start) {
            Err(Error::Supervised(failure)) if failure.blame == Blame::Template => {
                say("warning", format_args!("{}; booting instead", failure.message));
                templates.set_aside(&wanted.key);
                begin(boot()?)
            }
            begun => begun,
        },
    };
    let visit = begun.map_err(ask_the_host)?;
    Ok(Held { visit, _image: image_lock, _lock: lock })
}
