//! Snapshots that are kept as what differs from another one: they have that one's files too, by other names, so
//! that nothing happens to them when it is removed.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use vmm::{Contents, Layers};

use super::{MEMORY, SCRATCH, STATE, Snapshot, Snapshots, Unfinished, layer};
use crate::containers::Record;
use crate::containers::files::file_error;
use crate::error::Error;

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

impl Unfinished {
    /// Takes the files of a parent along, and gives them to whoever saves the container: state, memories, and
    /// disks. None where the file system cannot have a file in two places, or the parent is damaged or gone.
    pub(super) fn lie_over(&self, parent: &Snapshot) -> Vec<OwnedFd> {
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
