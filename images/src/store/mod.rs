//! The images on this machine: what is where, under which names. docs/image-store.md is its map.

mod check;
mod collect;
mod commit;
mod disk;
mod error;
mod files;
mod image;
mod import;
mod intake;
mod keep;
mod load;
mod merging;
mod names;
mod record;
mod remove;
mod save;
mod tag;
mod usage;

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::Error;
use crate::reference::Reference;

pub use check::{Damage, Depth, Findings};
pub use commit::{CommitOptions, Committed};
pub use disk::{Disk, Extent};
pub use error::StoreError;
pub use image::{Image, ImageLock, Parts};
pub use import::ImportOptions;
pub use intake::{Blobs, Complete, Incoming, Intake, Loaded, Missing};
pub use remove::{Pruned, Removed, Users, no_users};
pub use save::{Output, SaveTarget};
pub use usage::{ImageUsage, Usage};

pub(crate) use error::{output_hint, space_hint};

/// What `version` says. A store with a higher number is left alone.
const VERSION: u32 = 1;

/// The store of images in a folder. Holds no state: every call reads what is there, so any
/// number of processes may use one store at once.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in the folder `root` and makes it if it is not there. What a killed process left
    /// behind is removed if nobody else is at work.
    ///
    /// # Errors
    /// If a newer version wrote it, or its folders cannot be made.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let store = Store { root: root.to_owned() };
        let is_new = store.check_version()?;
        for folder in
            [store.records(), store.blobs(), store.layers(), store.disks(), store.temporary()]
        {
            files::create_private_folder(&folder)?;
        }
        if is_new {
            store.write_version()?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// The image that `name` means: a reference, or an id or the beginning of one.
    ///
    /// # Errors
    /// [`Error::UnknownImage`] if there is none, [`Error::AmbiguousId`] if there are several.
    pub fn find(&self, name: &str) -> Result<Image, Error> {
        self.find_among(&self.read_names()?, name)
    }

    fn find_among(&self, names: &names::Names, name: &str) -> Result<Image, Error> {
        let unknown = || Error::UnknownImage { name: name.to_owned() };
        let parsed: Result<Reference, _> = name.parse();
        if let Ok(reference) = &parsed
            && let Some(id) = self.id_of(names, reference)?
        {
            return self.image(id, names)?.ok_or_else(unknown);
        }
        match self.ids_beginning_with(name)?[..] {
            [id] => self.image(id, names)?.ok_or_else(unknown),
            [] => match parsed {
                // `Debian` is no image that is missing: it is no name at all.
                Err(error) if !is_hex(name) => Err(error.into()),
                _ => Err(unknown()),
            },
            _ => Err(Error::AmbiguousId { name: name.to_owned() }),
        }
    }

    /// All images, those with names first, by name, then the others by id.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let names = self.read_names()?;
        let mut images = Vec::new();
        for id in self.ids()? {
            images.extend(self.image(id, &names)?);
        }
        images.sort_by_key(|image| {
            (image.references.is_empty(), image.references.first().cloned(), image.id)
        });
        Ok(images)
    }

    /// The id that a reference leads to: by its tag, or by the digest of an image's manifest.
    fn id_of(&self, names: &names::Names, reference: &Reference) -> Result<Option<Digest>, Error> {
        if let Some(id) = names.get(reference) {
            return Ok(Some(id));
        }
        let Some(digest) = reference.digest() else { return Ok(None) };
        for id in self.ids()? {
            let Some(record) = self.read_record(id)? else { continue };
            let same_repository = names.of(id).any(|name| {
                name.registry() == reference.registry()
                    && name.repository() == reference.repository()
            });
            if same_repository && record.manifest == Some(digest) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn ids_beginning_with(&self, name: &str) -> Result<Vec<Digest>, Error> {
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if !is_hex(prefix) {
            return Ok(Vec::new());
        }
        let mut ids = self.ids()?;
        ids.retain(|id| id.hex().starts_with(prefix));
        Ok(ids)
    }

    /// Whether the store has no version yet, and so is new.
    fn check_version(&self) -> Result<bool, StoreError> {
        let path = self.root.join("version");
        let Some(bytes) = files::read_if_there(&path)? else { return Ok(true) };
        match str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()) {
            Some(found) if found <= VERSION => Ok(false),
            Some(found) => {
                Err(StoreError::Newer { path: self.root.clone(), found, known: VERSION })
            }
            None => Err(StoreError::Corrupt { path, source: files::invalid("no version number") }),
        }
    }

    fn write_version(&self) -> Result<(), StoreError> {
        let _busy = self.lock_shared()?;
        let path = self.root.join("version");
        files::write_atomically(&self.temporary(), &path, format!("{VERSION}\n").as_bytes())
    }

    fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    fn layer(&self, diff_id: Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
