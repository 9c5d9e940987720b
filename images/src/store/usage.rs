//! `system df`: what images take on the disk, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::{failed, names_in};
use super::image::Image;
use super::remove::{Hold, Users};
use super::{Store, StoreError, disk};
use crate::digest::Digest;
use crate::error::Error;

/// What all images take, in bytes of the disk (not of their files).
#[derive(Debug, Clone)]
pub struct Usage {
    /// Of the whole store, with what no image needs any more.
    pub total: u64,
    /// Of that, what no image in use needs.
    pub reclaimable: u64,
    /// For each image.
    pub images: Vec<ImageUsage>,
}

/// What one image takes.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Bytes that other images need as well.
    pub shared: u64,
    /// Bytes that would be free without it.
    pub unique: u64,
    /// Whether somebody uses it, as every container does.
    pub in_use: bool,
}

impl Store {
    /// Adds up what lies in the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn usage(&self, others: Users<'_>) -> Result<Usage, Error> {
        let images = self.list()?;
        let mut users: BTreeMap<PathBuf, BTreeSet<Digest>> = BTreeMap::new();
        for image in &images {
            for path in self.parts(image) {
                users.entry(path).or_default().insert(image.id);
            }
        }
        let mut sizes = BTreeMap::new();
        for path in users.keys() {
            sizes.insert(path.clone(), bytes_on_disk(path)?);
        }
        let sum = |image: &Image, shared: bool| {
            let parts = self.parts(image).into_iter();
            let wanted = parts.filter(|path| (users[path].len() > 1) == shared);
            wanted.map(|path| sizes[&path]).sum()
        };
        let in_use = self.in_use(&images, others)?;
        let needed = users.iter().filter(|(_, users)| !users.is_disjoint(&in_use));
        let needed: u64 = needed.map(|(path, _)| sizes[path]).sum();
        let total = self.bytes_on_disk()?;
        let images = images
            .into_iter()
            .map(|image| ImageUsage {
                shared: sum(&image, true),
                unique: sum(&image, false),
                in_use: in_use.contains(&image.id),
                image,
            })
            .collect();
        Ok(Usage { total, reclaimable: total.saturating_sub(needed), images })
    }

    /// The images that somebody uses. Only taking a lock shows whether it is free; with the names
    /// taken, no removal takes that for a use.
    fn in_use(&self, images: &[Image], users: Users<'_>) -> Result<BTreeSet<Digest>, Error> {
        let _taken = self.take_names()?;
        let mut in_use = BTreeSet::new();
        for image in images {
            match self.lock_for_removal(image.id, users) {
                Ok(Hold::Free(_)) | Err(Error::UnknownImage { .. }) => {}
                Ok(Hold::Used(_)) => {
                    in_use.insert(image.id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(in_use)
    }

    /// Everything that lies in the store's folder.
    pub(super) fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        bytes_on_disk(&self.root)
    }

    /// The files and folders that an image is made of, each once.
    fn parts(&self, image: &Image) -> BTreeSet<PathBuf> {
        let mut parts = BTreeSet::from([self.record_path(image.id)]);
        for record in image.records() {
            parts.insert(self.blob(record.config));
            parts.insert(self.disks().join(disk::key(record).hex()));
            parts.extend(record.manifest.map(|manifest| self.blob(manifest)));
            for layer in &record.layers {
                parts.insert(self.blob(layer.blob));
                parts.insert(self.layer(layer.diff_id));
            }
        }
        parts
    }
}

/// Bytes of the blocks of a file or of everything in a folder; what has vanished takes none.
fn bytes_on_disk(path: &Path) -> Result<u64, StoreError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed("look at", path)(error)),
    };
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        let names = match names_in(path) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Vec::new()
            }
            names => names?,
        };
        for name in names {
            bytes += bytes_on_disk(&path.join(name))?;
        }
    }
    Ok(bytes)
}
