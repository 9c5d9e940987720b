//! Merges an image's layers while they come: a layer as soon as those below it are there, from the
//! records that its unpacking passes on.

use std::sync::mpsc::Receiver;

use super::Store;
use super::disk::Merged;
use crate::digest::Digest;
use crate::error::Error;
use crate::layer::Record;

/// How far the merge has come.
#[derive(Debug, Default)]
pub(super) struct Merging {
    merged: Merged,
    /// The lowest layer that is not merged yet.
    next: usize,
}

impl Merging {
    /// Whether layer `number` could be merged now, with those below it.
    pub(super) fn may_merge(&self, number: usize) -> bool {
        self.next <= number
    }

    /// Merges layers that are in the store; the first is the base of the image.
    pub(super) fn catch_up(&mut self, store: &Store, layers: &[Digest]) -> Result<(), Error> {
        while let Some(layer) = layers.get(self.next) {
            self.merged.add(store, self.next, *layer)?;
            self.next += 1;
        }
        Ok(())
    }

    /// Merges the last of `layers` from its records, after those below it. Counts as merged only when
    /// [`Merging::finish`] says that the records were right.
    pub(super) fn follow(
        &mut self,
        store: &Store,
        layers: &[Digest],
        records: &Receiver<Vec<Record>>,
    ) -> Result<(), Error> {
        let Some((layer, below)) = layers.split_last() else { return Ok(()) };
        self.catch_up(store, below)?;
        let mut records = records.iter().flatten();
        records.try_for_each(|record| self.merged.apply(below.len(), *layer, record))
    }

    /// Takes the layer for merged that was followed to its end.
    pub(super) fn finish(&mut self, layer: Digest, data_blocks: u32) {
        self.merged.note_blocks(layer, data_blocks);
        self.next += 1;
    }

    /// The tree of all `layers`.
    pub(super) fn complete(mut self, store: &Store, layers: &[Digest]) -> Result<Merged, Error> {
        self.catch_up(store, layers)?;
        Ok(self.merged)
    }
}
