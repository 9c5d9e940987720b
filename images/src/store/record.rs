//! `records/<id>.json`: what an image is made of. Written once, when all of that is in the store; and
//! `records/<id>.manifest.json`, where it came without a manifest first and with one later.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{failed, invalid, names_in, read_if_there, sync_folder, write_atomically};
use super::{Store, StoreError};
use crate::digest::Digest;

/// Everything about an image but its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Digest of the configuration, which is the image's id; a blob.
    pub(super) config: Digest,
    /// Digest of the manifest the image came with; a blob. Docker archives have none.
    pub(super) manifest: Option<Digest>,
    /// From the base upwards.
    pub(super) layers: Vec<LayerRecord>,
    /// Sum of the sizes of all files in all layers.
    pub(super) size: u64,
}

/// A layer of an image, and the blob it came as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) diff_id: Digest,
    pub(super) blob: Digest,
    pub(super) blob_size: u64,
    pub(super) media_type: String,
}

/// What writing a record has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The image is new.
    Image,
    /// The image was there, and has a manifest now.
    Manifest,
    /// It was there like this.
    Nothing,
}

impl Store {
    /// Ids of all images, in order.
    pub(super) fn ids(&self) -> Result<Vec<Digest>, StoreError> {
        let names = names_in(&self.records())?;
        Ok(names
            .iter()
            .filter_map(|name| Digest::from_hex(name.strip_suffix(".json")?).ok())
            .collect())
    }

    pub(super) fn record_path(&self, id: Digest) -> PathBuf {
        self.records().join(format!("{}.json", id.hex()))
    }

    fn manifest_path(&self, id: Digest) -> PathBuf {
        self.records().join(format!("{}.manifest.json", id.hex()))
    }

    /// Adds an image, or to an image that came without a manifest the one that it has come with now.
    /// The record itself is never replaced, since locks are held on the file that is there; so the
    /// second goes beside it. To be called with the names taken.
    pub(super) fn write_record(&self, record: &Record) -> Result<Written, StoreError> {
        let id = record.config;
        match self.read_record(id)? {
            None => {
                self.write_as(&self.record_path(id), record)?;
                Ok(Written::Image)
            }
            Some(there) if there.manifest.is_none() && record.manifest.is_some() => {
                self.write_as(&self.manifest_path(id), record)?;
                Ok(Written::Manifest)
            }
            Some(_) => Ok(Written::Nothing),
        }
    }

    fn write_as(&self, path: &Path, record: &Record) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|error| failed("write", path)(error.into()))?;
        write_atomically(&self.temporary(), path, &bytes)
    }

    /// What an image is made of, with the manifest that it has come with since.
    pub(super) fn read_record(&self, id: Digest) -> Result<Option<Record>, StoreError> {
        Ok(self.read_records(id)?.pop())
    }

    /// All that is recorded of an image, what counts last. Nothing of it goes while the image is there:
    /// somebody may be reading the blobs that the first one names.
    pub(super) fn read_records(&self, id: Digest) -> Result<Vec<Record>, StoreError> {
        let Some(first) = read(&self.record_path(id))? else { return Ok(Vec::new()) };
        if first.manifest.is_some() {
            return Ok(vec![first]);
        }
        let path = self.manifest_path(id);
        let Some(later) = read(&path)? else { return Ok(vec![first]) };
        let layers = |record: &Record| -> Vec<Digest> {
            record.layers.iter().map(|layer| layer.diff_id).collect()
        };
        if later.config != first.config || layers(&later) != layers(&first) {
            return Err(StoreError::Corrupt { path, source: invalid("it is of another image") });
        }
        Ok(vec![first, later])
    }

    /// Takes an image's record away, and with it the image.
    pub(super) fn remove_record(&self, id: Digest) -> Result<(), StoreError> {
        // Were it to outlast the record, the image would have it when it is loaded again.
        self.remove_manifest(id)?;
        let path = self.record_path(id);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        sync_folder(&self.records())
    }

    /// Takes away what has made an image one with a manifest, if anything has.
    pub(super) fn remove_manifest(&self, id: Digest) -> Result<(), StoreError> {
        let path = self.manifest_path(id);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&self.records()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }
}

fn read(path: &Path) -> Result<Option<Record>, StoreError> {
    let Some(bytes) = read_if_there(path)? else { return Ok(None) };
    let record = serde_json::from_slice(&bytes).map_err(io::Error::from);
    let path = path.to_owned();
    record.map(Some).map_err(|source| StoreError::Corrupt { path, source })
}
