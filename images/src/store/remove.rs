//! `rmi`: takes a name away, and the image with its last name.

use std::fs::{self, File};
use std::io;

use super::Store;
use super::files::failed;
use super::image::Image;
use super::record::Written;
use crate::digest::Digest;
use crate::error::Error;
use crate::reference::Reference;

/// What `rmi` did, in the order in which Docker prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone: `Untagged: debian:bookworm`.
    pub untagged: Vec<Reference>,
    /// The image, then layers that no other image has: `Deleted: sha256:…`.
    pub deleted: Vec<Digest>,
}

/// What `image prune` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// For each image.
    pub images: Vec<Removed>,
    /// Bytes of the disk that are free now.
    pub reclaimed: u64,
}

/// Says who else uses an image, as `stopped container 0123456789ab`: somebody who does not hold its
/// lock, but wants to find it later. It is asked while nobody can begin to.
pub type Users<'a> = &'a dyn Fn(Digest) -> Option<String>;

/// Of a store whose images nobody uses but by their locks.
#[must_use]
pub fn no_users(_: Digest) -> Option<String> {
    None
}

/// Whether an image may be removed.
pub(super) enum Hold {
    /// It may, as long as this lock is held.
    Free(File),
    /// It may not, because of somebody.
    Used(String),
}

impl Store {
    /// Removes every image that `is_wanted` does not want, with all its names, unless a container uses
    /// it; and what no image needs.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn prune(
        &self,
        mut is_wanted: impl FnMut(&Image) -> bool,
        users: Users<'_>,
    ) -> Result<Pruned, Error> {
        let mut taken = self.take_names()?;
        let before = self.bytes_on_disk()?;
        let mut pruned = Pruned::default();
        for id in self.ids()? {
            let Some(image) = self.image(id, &taken.names)? else { continue };
            if is_wanted(&image) {
                continue;
            }
            let Hold::Free(_lock) = self.lock_for_removal(id, users)? else { continue };
            self.remove_record(id)?;
            image.references.iter().for_each(|reference| taken.names.remove(reference));
            pruned.images.push(Removed { untagged: image.references, deleted: vec![id] });
        }
        // The images go first: on a full disk, the names find room in what they leave.
        let layers = self.collect()?;
        if let Some(last) = pruned.images.last_mut() {
            last.deleted.extend(layers);
            taken.save()?;
        }
        pruned.reclaimed = before.saturating_sub(self.bytes_on_disk()?);
        Ok(pruned)
    }

    /// Removes the name, and with its last name the image. An image given by id loses all its
    /// names: more than one only with `force`. With `force`, an image that a container uses loses
    /// its names and stays, to be removed by id later.
    ///
    /// # Errors
    /// [`Error::UnknownImage`], [`Error::StillTagged`], [`Error::InUse`]; nothing is changed then.
    pub fn remove(&self, name: &str, force: bool, users: Users<'_>) -> Result<Removed, Error> {
        let mut taken = self.take_names()?;
        let image = self.find_among(&taken.names, name)?;
        let untagged = self.names_to_remove(&image, name, force)?;
        let mut removed = Removed { untagged, deleted: Vec::new() };
        let is_last = removed.untagged.len() == image.references.len();
        let lock = match is_last.then(|| self.lock_for_removal(image.id, users)).transpose()? {
            Some(Hold::Used(by)) if !force || removed.untagged.is_empty() => {
                return Err(Error::InUse { name: name.to_owned(), by });
            }
            Some(Hold::Free(lock)) => Some(lock),
            Some(Hold::Used(_)) | None => None,
        };
        // The image goes first: on a full disk, the names find room in what it leaves.
        if lock.is_some() {
            self.remove_record(image.id)?;
            removed.deleted.push(image.id);
            removed.deleted.extend(self.collect()?);
        }
        removed.untagged.iter().for_each(|reference| taken.names.remove(reference));
        taken.save()?;
        Ok(removed)
    }

    /// Takes back what was written a moment ago, unless somebody uses the image already.
    pub(super) fn withdraw(&self, id: Digest, written: Written) -> Result<(), Error> {
        if written == Written::Nothing {
            return Ok(());
        }
        let Hold::Free(_lock) = self.lock_for_removal(id, &no_users)? else { return Ok(()) };
        match written {
            Written::Image => self.remove_record(id)?,
            Written::Manifest => self.remove_manifest(id)?,
            Written::Nothing => {}
        }
        Ok(())
    }

    /// The names that `name` stands for: itself, or all if it is an id.
    fn names_to_remove(
        &self,
        image: &Image,
        name: &str,
        force: bool,
    ) -> Result<Vec<Reference>, Error> {
        if let Ok(reference) = name.parse::<Reference>()
            && image.references.contains(&reference)
        {
            return Ok(vec![reference]);
        }
        let count = image.references.len();
        if count > 1 && !force {
            return Err(Error::StillTagged { id: image.id.short(), count });
        }
        Ok(image.references.clone())
    }

    /// The exclusive lock on the image's record, unless somebody uses the image.
    pub(super) fn lock_for_removal(&self, id: Digest, users: Users<'_>) -> Result<Hold, Error> {
        let path = self.record_path(id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::UnknownImage { name: id.short() });
            }
            Err(error) => return Err(failed("open", &path)(error).into()),
        };
        match file.try_lock() {
            Ok(()) => Ok(users(id).map_or(Hold::Free(file), Hold::Used)),
            Err(fs::TryLockError::WouldBlock) => {
                Ok(Hold::Used(users(id).unwrap_or_else(|| "a running container".to_owned())))
            }
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error).into()),
        }
    }
}
