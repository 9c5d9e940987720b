//! `names.json`: which reference means which image. One file, replaced as a whole; images come and
//! go under its lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

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

/// The names while they are this process's own.
pub(super) struct TakenNames<'a> {
    store: &'a Store,
    pub(super) names: Names,
    _lock: File,
}

impl TakenNames<'_> {
    /// Writes the names.
    pub(super) fn save(&self) -> Result<(), StoreError> {
        // Whoever holds the other lock empties the folder that the new file is made in.
        let _busy = self.store.lock_shared()?;
        let path = self.store.root.join("names.json");
        let bytes = serde_json::to_vec_pretty(&self.names)
            .map_err(|error| failed("write", &path)(error.into()))?;
        write_atomically(&self.store.temporary(), &path, &bytes)
    }
}

impl Store {
    /// The names in the store under a folder, which need not be there: nothing is made or cleared away.
    ///
    /// # Errors
    /// If a newer version wrote it, or it cannot be read.
    pub fn names_under(root: &Path) -> Result<Vec<Reference>, StoreError> {
        let store = Store { root: root.to_owned() };
        store.check_version()?;
        Ok(store.read_names()?.references.into_keys().collect())
    }

    pub(super) fn read_names(&self) -> Result<Names, StoreError> {
        let path = self.root.join("names.json");
        let Some(bytes) = read_if_there(&path)? else { return Ok(Names::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Corrupt { path, source: error.into() })
    }

    /// Takes the names, so that nobody else changes them, adds an image or removes one.
    pub(super) fn take_names(&self) -> Result<TakenNames<'_>, StoreError> {
        let lock_path = self.root.join("names.lock");
        let lock = open_lock(&lock_path)?;
        lock.lock().map_err(failed("lock", &lock_path))?;
        let mut names = self.read_names()?;
        // Names outlive their image where `rmi` was killed, and must not come back with it.
        let ids = self.ids()?;
        names.references.retain(|_, id| ids.contains(id));
        Ok(TakenNames { store: self, names, _lock: lock })
    }
}
