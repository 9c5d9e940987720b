//! One image of the store, and the lock that keeps it there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::disk::{self, Disk};
use super::files::{failed, read_if_there};
use super::names::Names;
use super::record::Record;
use super::{Store, StoreError};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{CONFIG_TYPES, Descriptor};
use crate::reference::Reference;

/// An image that was in the store when it was asked for. [`Image::lock`] keeps it there.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the configuration document.
    pub id: Digest,
    /// Its names, in order; none if a newer image took them.
    pub references: Vec<Reference>,
    /// What to run in it, as whom, where.
    pub config: ImageConfig,
    /// Bytes of all files in all layers.
    pub size: u64,
    /// When it was built, if it says so.
    pub created: Option<SystemTime>,
    /// Digest of the manifest it came with, if it came with one.
    pub manifest: Option<Digest>,
    store: Store,
    /// What counts is the last.
    records: Vec<Record>,
}

impl Image {
    /// The read-only disk with the image's file tree: a handful of `stat`s. Only where another
    /// version of this program has loaded the image, the disk's metadata is written now.
    ///
    /// Hold the image's [`lock`](Image::lock) from before this call until the disk's files are open.
    ///
    /// # Errors
    /// If the layers do not make a tree, or the store cannot be read or written.
    pub fn disk(&self) -> Result<Disk, Error> {
        disk::of(&self.store, self.id, self.record())
    }

    /// Keeps the image from being removed as long as the guard, or a copy of its descriptor in
    /// another process, is open.
    ///
    /// # Errors
    /// [`Error::UnknownImage`] if the image was removed meanwhile.
    pub fn lock(&self) -> Result<ImageLock, Error> {
        let path = self.store.record_path(self.id);
        let unknown = || Error::UnknownImage { name: self.id.short() };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            Err(error) => return Err(failed("open", &path)(error).into()),
        };
        file.lock_shared().map_err(failed("lock", &path))?;
        // A remover may have had it first.
        match (file.metadata(), std::fs::metadata(&path)) {
            (Ok(ours), Ok(there)) if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) => {
                Ok(ImageLock { file })
            }
            _ => Err(unknown()),
        }
    }

    /// The configuration document as it came: with fields that [`Image::config`] does not have.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn document(&self) -> Result<Vec<u8>, Error> {
        let path = self.store.blob(self.id);
        Ok(std::fs::read(&path).map_err(failed("read", &path))?)
    }

    /// The bytes of the files of each layer, from the base upwards.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn layer_sizes(&self) -> Result<Vec<u64>, Error> {
        let size = |layer| {
            let summary = self.store.layer_summary(layer)?;
            Ok(summary.map_or(0, |summary| summary.content_bytes))
        };
        self.layers().into_iter().map(size).collect()
    }

    pub(super) fn record(&self) -> &Record {
        self.records.last().expect("an image has a record")
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// What it is made of. Hold the image's [`lock`](Image::lock) while its blobs are read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn parts(&self) -> Result<Parts, Error> {
        let blob = |digest| {
            let path = self.store.blob(digest);
            std::fs::read(&path).map_err(failed("read", &path))
        };
        let descriptor = |media_type: &str, digest, size| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: None,
        };
        let record = self.record();
        let config = blob(record.config)?;
        let layers = record.layers.iter();
        Ok(Parts {
            manifest: record.manifest.map(blob).transpose()?,
            config: descriptor(CONFIG_TYPES[0], record.config, config.len() as u64),
            layers: layers
                .map(|layer| descriptor(&layer.media_type, layer.blob, layer.blob_size))
                .collect(),
        })
    }

    /// The file with a blob, if it was kept.
    #[must_use]
    pub fn blob(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.store.blob(digest)).filter(|path| path.is_file())
    }

    /// Whether a layer's blob was not kept, so that it has to be fetched before it is saved.
    #[must_use]
    pub fn lacks_blobs(&self) -> bool {
        self.record().layers.iter().any(|layer| self.blob(layer.blob).is_none())
    }

    /// The digests of its uncompressed layers, from the base upwards.
    #[must_use]
    pub fn layers(&self) -> Vec<Digest> {
        self.record().layers.iter().map(|layer| layer.diff_id).collect()
    }
}

/// What an image is made of, for whoever writes it down elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The manifest it came with, if it came with one.
    pub manifest: Option<Vec<u8>>,
    /// The configuration; its media type is OCI's, whatever the manifest calls it.
    pub config: Descriptor,
    /// The layers' blobs, from the base upwards.
    pub layers: Vec<Descriptor>,
}

/// Holds an image in the store: a shared flock(2) on its record.
#[derive(Debug)]
pub struct ImageLock {
    file: File,
}

impl AsFd for ImageLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<ImageLock> for OwnedFd {
    fn from(lock: ImageLock) -> OwnedFd {
        lock.file.into()
    }
}

impl Store {
    pub(super) fn image(&self, id: Digest, names: &Names) -> Result<Option<Image>, StoreError> {
        let records = self.read_records(id)?;
        let Some(record) = records.last() else { return Ok(None) };
        let path = self.blob(record.config);
        // Between the two reads the image may have been removed.
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let config = ImageConfig::parse(&bytes)
            .map_err(|error| StoreError::Corrupt { path, source: io::Error::other(error) })?;
        Ok(Some(Image {
            id,
            references: names.of(id).cloned().collect(),
            created: config.created,
            config,
            size: record.size,
            manifest: record.manifest,
            store: self.clone(),
            records,
        }))
    }
}
