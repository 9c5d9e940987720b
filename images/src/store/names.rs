//! `names.json`: which reference means which image. One file, replaced as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::files::{failed, open_lock, read_if_there, write_atomically};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::reference::Reference;

/// All references of the store.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Names {
    references: BTreeMap<Reference, Digest>,
}

impl Names {
    pub(super) fn get(&self, reference: &Reference) -> Option<Digest> {
        self.references.get(reference).copied()
    }

    pub(super) fn of(&self, id: Digest) -> impl Iterator<Item = &Reference> {
        self.references.iter().filter(move |(_, named)| **named == id).map(|(name, _)| name)
    }

    pub(super) fn insert(&mut self, reference: Reference, id: Digest) {
        self.references.insert(reference, id);
    }

    pub(super) fn remove(&mut self, reference: &Reference) {
        self.references.remove(reference);
    }
}

impl Store {
    pub(super) fn read_names(&self) -> Result<Names, StoreError> {
        let path = self.root.join("names.json");
        let Some(bytes) = read_if_there(&path)? else { return Ok(Names::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Corrupt { path, source: error.into() })
    }

    /// Changes the names while no other process does.
    pub(super) fn change_names(&self, change: impl FnOnce(&mut Names)) -> Result<(), StoreError> {
        // Whoever holds the other lock empties the folder that the new file is made in.
        let _busy = self.lock_shared()?;
        let lock_path = self.root.join("names.lock");
        let lock = open_lock(&lock_path)?;
        lock.lock().map_err(failed("lock", &lock_path))?;
        let mut names = self.read_names()?;
        change(&mut names);
        let path = self.root.join("names.json");
        let bytes = serde_json::to_vec_pretty(&names)
            .map_err(|error| failed("write", &path)(error.into()))?;
        write_atomically(&self.temporary(), &path, &bytes)
    }
}
