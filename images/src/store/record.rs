//! `records/<id>.json`: what an image is made of. Written once, when all of that is in the store.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{failed, names_in, read_if_there, write_atomically};
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

/// Whether a record is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Now,
    Before,
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

    /// Adds an image, unless it is there. A record is never replaced: locks are held on the file
    /// that is there.
    pub(super) fn write_record(&self, record: &Record) -> Result<Written, StoreError> {
        let path = self.record_path(record.config);
        if path.try_exists().map_err(failed("look for", &path))? {
            return Ok(Written::Before);
        }
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|error| failed("write", &path)(error.into()))?;
        write_atomically(&self.temporary(), &path, &bytes)?;
        Ok(Written::Now)
    }

    pub(super) fn read_record(&self, id: Digest) -> Result<Option<Record>, StoreError> {
        let path = self.record_path(id);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).map_err(io::Error::from);
        record.map(Some).map_err(|source| StoreError::Corrupt { path, source })
    }
}
