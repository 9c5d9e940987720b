//! Snapshots that are kept as what differs from another one, or from the template of their image: they have that
//! one's files too, by other names, so that nothing happens to them when it is removed.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use std::path::Path;
use std::time::SystemTime;

use images::Image;
use vmm::{Contents, Layers};

use super::{MEMORY, SCRATCH, STATE, Snapshot, Snapshots, Unfinished, layer};
use crate::containers::Record;
use crate::containers::files::file_error;
use crate::error::Error;
use crate::places::Places;
use crate::preparation::open_disk;
use crate::scratch::Blank;
use crate::templates::{Template, Templates, Wanted};
use crate::working_set::Known;

/// More files than these are not laid over each other: the next snapshot is one that has everything.
pub(super) const MOST_BENEATH: u8 = 7;

impl Snapshots {
    /// What a container that runs was saved as last, or goes on from; if it is of use.
    pub(super) fn parent_of(&self, record: &Record) -> Option<Snapshot> {
        let origin = record.copy_of.as_ref().and_then(|origin| origin.snapshot.as_deref());
        // What is broken is none of this container's affair.
        let all = self.read_all(drop).ok()?.into_iter();
        let mut related = all.filter(|snapshot| {
            let of_it = snapshot.description.container.id == record.id;
            (of_it || origin == Some(&snapshot.name))
                && snapshot.description.container.vm == record.vm
        });
        related.next().filter(|last| last.description.beneath < MOST_BENEATH)
    }
}

/// The template of a container's image, or else that of all images, if it is there: whether or not the container
/// began in it, it has the same kernel and agent at the same places.
pub(super) fn template_of(
    record: &Record,
    home: &Path,
    image: &Image,
    places: &Places,
) -> Option<Template> {
    let of_all = Wanted::of(record.vm).ok()?;
    let of_image = || {
        let blank = Blank::beneath(record, home, &places.scratch()).ok()?;
        of_all.with_image(image.id, &open_disk(image).ok()?, &blank).ok()
    };
    let templates = Templates::new(places.templates());
    of_image().and_then(|wanted| templates.find(&wanted)).or_else(|| templates.find(&of_all))
}

impl Unfinished {
    /// As [`lie_over`](Self::lie_over), but over a template. Only its memory counts: the disk is written as a whole,
    /// over a file that has nothing.
    pub(super) fn lie_over_template(&self, mut template: Template) -> Vec<OwnedFd> {
        template.known().lend(&self.folder());
        self.try_to_lie_over_template(template).unwrap_or_default()
    }

    fn try_to_lie_over_template(&self, template: Template) -> Option<Vec<OwnedFd>> {
        let (state, memory) = template.share(&self.folder().join(layer(MEMORY, 1))).ok()?;
        let disk = self.create(&layer(SCRATCH, 1)).ok()?;
        disk.set_modified(SystemTime::UNIX_EPOCH).ok()?;
        Some([state, memory, disk].map(OwnedFd::from).into())
    }

    /// Takes the files of a parent along, and gives them to whoever saves the container: state, memories, and
    /// disks. None where the file system cannot have a file in two places, or the parent is damaged or gone.
    pub(super) fn lie_over(&self, parent: &Snapshot) -> Vec<OwnedFd> {
        Known::of(&parent.folder).lend(&self.folder());
        self.try_to_lie_over(parent).unwrap_or_default()
    }

    fn try_to_lie_over(&self, parent: &Snapshot) -> Option<Vec<OwnedFd>> {
        // It is checked as it is before something goes on from it.
        let files = parent.open().ok()?;
        for name in [MEMORY, SCRATCH] {
            for index in 0..=parent.description.beneath {
                let from = parent.folder.join(layer(name, index));
                fs::hard_link(from, self.folder().join(layer(name, index + 1))).ok()?;
            }
        }
        let state = File::open(parent.folder.join(STATE)).ok()?;
        let disks = parent.open_layers(SCRATCH).ok()?;
        let all = std::iter::once(state).chain(files.machine.into_memories()).chain(disks);
        // What was opened is what was linked.
        parent.is_in_its_folder().then(|| all.map(OwnedFd::from).collect())
    }

    /// How many files lie beneath its own, now that it is saved. What was taken along in vain is removed.
    pub(super) fn beneath(&self) -> Result<u8, Error> {
        let path = self.folder().join(STATE);
        let mut state = File::open(&path).map_err(file_error("open", &path))?;
        let contents = vmm::saved_contents(&mut state).map_err(|error| {
            file_error("read", &path)(io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        let beneath = u8::try_from(contents.layers.saturating_sub(1)).unwrap_or(u8::MAX);
        for name in [MEMORY, SCRATCH] {
            for index in beneath.saturating_add(1)..=MOST_BENEATH {
                // Most of them were never there.
                let _ = fs::remove_file(self.folder().join(layer(name, index)));
            }
        }
        Ok(beneath)
    }
}

/// A disk of which these are the files.
pub(super) fn disk(mut files: Vec<File>, contents: Contents) -> io::Result<Layers> {
    if files.len() == 1 {
        return Layers::whole(files.remove(0));
    }
    Layers::new(files, contents.disks.into_iter().next().unwrap_or_default())
}
