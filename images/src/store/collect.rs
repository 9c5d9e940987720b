//! Removes what no image needs any more, and what killed processes left behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::files::{failed, names_in, open_lock, sync_folder};
use super::{Store, StoreError, disk};
use crate::digest::Digest;

impl Store {
    /// Held while files are added that no image names yet.
    pub(super) fn lock_shared(&self) -> Result<File, StoreError> {
        let path = self.root.join("lock");
        let lock = open_lock(&path)?;
        lock.lock_shared().map_err(failed("lock", &path))?;
        Ok(lock)
    }

    /// Held while files are removed; `None` if somebody is adding some.
    pub(super) fn try_lock_exclusive(&self) -> Result<Option<File>, StoreError> {
        let path = self.root.join("lock");
        let lock = open_lock(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    /// Empties the folder of unfinished work, unless somebody is at work.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        if names_in(&self.temporary())?.is_empty() {
            return Ok(());
        }
        match self.try_lock_exclusive()? {
            Some(_alone) => self.empty_temporary(),
            None => Ok(()),
        }
    }

    /// Removes layers, blobs and disks that no image names; gives the layers' digests. While
    /// somebody is adding an image, this leaves everything for a later call.
    pub(super) fn collect(&self) -> Result<Vec<Digest>, StoreError> {
        let Some(_alone) = self.try_lock_exclusive()? else { return Ok(Vec::new()) };
        self.empty_temporary()?;
        let (mut layers, mut blobs, mut disks) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for id in self.ids()? {
            for record in self.read_records(id)? {
                blobs.insert(record.config);
                blobs.extend(record.manifest);
                disks.insert(disk::key(&record));
                for layer in record.layers {
                    layers.insert(layer.diff_id);
                    blobs.insert(layer.blob);
                }
            }
        }
        self.discard(&self.disks(), &disks)?;
        let removed = self.discard(&self.layers(), &layers)?;
        self.discard(&self.blobs(), &blobs)?;
        Ok(removed)
    }

    /// Moves what is not kept out of sight in one step each, so that a crash leaves no half of it.
    fn discard(&self, folder: &Path, kept: &BTreeSet<Digest>) -> Result<Vec<Digest>, StoreError> {
        let mut removed = Vec::new();
        for name in names_in(folder)? {
            let path = folder.join(&name);
            match Digest::from_hex(&name) {
                Ok(digest) if kept.contains(&digest) => continue,
                Ok(digest) => removed.push(digest),
                // Nothing of ours.
                Err(_) => {}
            }
            let grave = self.temporary().join(name);
            fs::rename(&path, &grave).map_err(failed("remove", &path))?;
        }
        sync_folder(folder)?;
        self.empty_temporary()?;
        Ok(removed)
    }

    fn empty_temporary(&self) -> Result<(), StoreError> {
        let folder = self.temporary();
        for name in names_in(&folder)? {
            let path = folder.join(name);
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
