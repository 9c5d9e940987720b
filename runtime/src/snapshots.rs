//! Snapshots: containers that ran, as files from which any number of others go on.
//!
//! A snapshot is a folder with its name. It is made under another name and a lock, and renamed when it is
//! whole and synced; what a killed maker leaves is removed by the next who looks. docs/snapshots.md tells
//! what is in it.

mod copy;
mod description;
mod error;
mod export;
mod import;
mod lineage;
mod name;
mod take;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use images::{Digest, Event, Image};
use vmm::Layers;
use vmm::config::{SnapshotFiles, WorkingSet};
use vmm::error::chain;

pub use self::copy::{Copying, clone, restore};
pub use self::description::Description;
pub use self::error::SnapshotError;
pub use self::export::export;
pub use self::import::import;
pub use self::name::{SnapshotName, SnapshotNameError};
pub use self::take::{Afterwards, Taken, take};

use crate::containers::files::{
    Durability, create_private, file_error, remove_folder, sync_folder, write,
};
use crate::control::SAVED_FILES;
use crate::error::Error;
use crate::events::event_log;
use crate::places::Places;
use crate::scratch::Ground;
use crate::templates::try_lock;
use crate::voice::say;
use crate::working_set::{Known, Unexplored};

const DESCRIPTION: &str = "snapshot.json";
const STATE: &str = "state";
const MEMORY: &str = "memory";
/// The writable disk, as far as it differs from what it lies over.
const SCRATCH: &str = "scratch";
/// What that lies over, where it is not a blank of this host.
const BLANK: &str = "blank";
/// The files that every snapshot has.
const OWN: [&str; 3] = SAVED_FILES;
/// What the names begin with of what is no snapshot: one that is being made, its lock, and one that is
/// being removed. No snapshot's name begins so.
const NEW: &str = ".new-";
const LOCK: &str = ".lock-";
const GONE: &str = ".gone-";
/// No document is longer, in bytes: it has a container's environment and its filter of system calls.
const MAX_DESCRIPTION_BYTES: u64 = 8 << 20;

/// All snapshots under one root.
#[derive(Clone, Debug)]
pub struct Snapshots {
    folder: PathBuf,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// What is known about it.
    pub description: Description,
    folder: PathBuf,
}

/// The files of a snapshot, open.
#[derive(Debug)]
pub(crate) struct Files {
    /// Of its machine.
    pub(crate) machine: SnapshotFiles,
    /// Of its writable disk.
    pub(crate) scratch: Layers,
}

/// A snapshot that is being made. Nobody finds it, and it is gone unless it is published.
#[derive(Debug)]
pub(crate) struct Unfinished {
    name: String,
    snapshots: Snapshots,
    is_published: bool,
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock")]
    lock: File,
}

impl Snapshot {
    /// The memory of its machine, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.description.memory_bytes()
    }

    /// How much of the disk it takes, in bytes, with what it shares.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.blocks()).sum::<u64>() * 512
    }

    fn files(&self) -> impl Iterator<Item = fs::Metadata> {
        let beneath = [MEMORY, SCRATCH].into_iter().flat_map(|name| self.layers(name).skip(1));
        let names = OWN.into_iter().map(str::to_owned).chain(beneath);
        names.filter_map(|name| fs::metadata(self.folder.join(name)).ok())
    }

    /// The names of the files in which its memory or its disk lies, the youngest first.
    fn layers(&self, name: &str) -> impl Iterator<Item = String> + use<> {
        let name = name.to_owned();
        (0..=self.description.beneath).map(move |index| layer(&name, index))
    }

    /// Its files, as they were saved: as far as that can be told at the price of a look.
    pub(crate) fn open(&self) -> Result<Files, Error> {
        let mut machine = SnapshotFiles::new(self.open_file(STATE)?, self.open_file(MEMORY)?);
        machine.beneath = self.open_layers(MEMORY)?.split_off(1);
        let scratch = self.open_layers(SCRATCH)?;
        let name = || self.name.clone();
        if !self.is_in_its_folder() {
            return Err(SnapshotError::Unknown { name: name() }.into());
        }
        let contents = vmm::check_saved(&mut machine).map_err(|error| match error {
            vmm::SnapshotError::Version { .. } => {
                SnapshotError::Unfit { name: name(), what: chain(&error) }
            }
            error => SnapshotError::Damaged { name: name(), what: chain(&error) },
        })?;
        let failed = |source| Error::System { action: "look at a snapshot's files", source };
        machine.state.rewind().map_err(failed)?;
        let damaged = |what: String| SnapshotError::Damaged { name: name(), what };
        for file in &scratch {
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            if modified.map_err(failed)? != SystemTime::UNIX_EPOCH {
                let what = "its writable disk was changed after it was saved".to_owned();
                return Err(damaged(what).into());
            }
        }
        let scratch = lineage::disk(scratch, contents).map_err(|error| damaged(chain(&error)))?;
        Ok(Files { machine, scratch })
    }

    /// Whether what was found in its folder so far is its own: a name can be removed, and made anew. One that is
    /// being made has no document, and nobody else comes to its folder.
    fn is_in_its_folder(&self) -> bool {
        match fs::read(self.folder.join(DESCRIPTION)) {
            Ok(text) => {
                Description::parse(&text, &self.name).ok().as_ref() == Some(&self.description)
            }
            Err(_) => self.folder.exists(),
        }
    }

    fn open_layers(&self, name: &str) -> Result<Vec<File>, Error> {
        self.layers(name).map(|name| self.open_file(&name)).collect()
    }

    fn open_file(&self, name: &str) -> Result<File, Error> {
        match File::open(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.folder.exists() => {
                Err(SnapshotError::Unknown { name: self.name.clone() }.into())
            }
            opened => opened.map_err(file_error("open", &self.folder.join(name))),
        }
    }

    /// What a copy has ahead of its memory, and where to note what it touches, as long as that is not known.
    pub(crate) fn known(
        &self,
        files: &SnapshotFiles,
    ) -> io::Result<(WorkingSet, Option<Unexplored>)> {
        Known::of(&self.folder).begin(self.folder.clone(), files)
    }

    /// Whether it can go on here, with this image: as far as its document tells.
    pub(crate) fn check(&self, image: &Image, places: &Places) -> Result<(), Error> {
        self.description.check_host(&self.name)?;
        self.description.check_disk(&self.name, image, places)
    }

    /// Why nothing has gone on from it.
    pub(crate) fn not_restored(&self, reason: String) -> Error {
        SnapshotError::NotRestored { name: self.name.clone(), reason }.into()
    }

    /// Where what its disk lies over is.
    fn blank_path(&self, places: &Places) -> PathBuf {
        match &self.description.container.ground {
            Ground::Named(name) => places.scratch().join(name),
            Ground::Usual | Ground::Own => self.folder.join(BLANK),
        }
    }

    /// Puts what its disk lies over, its own, at this place.
    pub(crate) fn share_blank(&self, to: &Path) -> Result<(), Error> {
        share(&self.folder.join(BLANK), to)
    }

    /// Something has happened to it.
    pub(crate) fn note(&self, action: &str, places: &Places, more: &[(&str, &str)]) {
        let record = &self.description.container;
        let own = [("name", &self.name), ("container", &record.name), ("image", &record.image)];
        let own = own.map(|(key, value)| (key, value.as_str()));
        let attributes = own.iter().chain(more);
        let attributes = attributes.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let event = Event::now("snapshot", action, &self.description.id, attributes.collect());
        event_log(places).add(&[event]);
    }
}

impl Snapshots {
    /// The snapshots of these places.
    #[must_use]
    pub fn of(places: &Places) -> Self {
        Self { folder: places.snapshots() }
    }

    /// All of them, the youngest first. One that cannot be read is told on stderr.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Snapshot>, Error> {
        self.sweep();
        self.read_all(|error| say("warning", chain(&error)))
    }

    /// The names that are there, whether they can be read or not: nothing is cleared away, and nobody told.
    #[must_use]
    pub fn peek(&self) -> Vec<String> {
        let mut names = self.names().unwrap_or_default();
        names.retain(|name| !name.starts_with('.'));
        names
    }

    /// All that can be read, the last one first.
    fn read_all(&self, broken: impl Fn(Error)) -> Result<Vec<Snapshot>, Error> {
        let mut found = Vec::new();
        for name in self.names()?.into_iter().filter(|name| !name.starts_with('.')) {
            match self.read(&name) {
                Ok(snapshot) => found.extend(snapshot),
                Err(error) => broken(error),
            }
        }
        found.sort_by_key(|snapshot: &Snapshot| Reverse(snapshot.description.created));
        Ok(found)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn find(&self, name: &str) -> Result<Snapshot, Error> {
        let unknown = || SnapshotError::Unknown { name: name.to_owned() };
        name.parse::<SnapshotName>().map_err(|_| unknown())?;
        self.read(name)?.ok_or_else(|| unknown().into())
    }

    /// Removes one, even where it cannot be read; containers that came from it go on.
    ///
    /// # Errors
    /// When there is none of this name, or it cannot be removed.
    pub fn remove(&self, name: &str, places: &Places) -> Result<(), Error> {
        self.sweep();
        let found = match self.find(name) {
            Err(error @ Error::Snapshot(SnapshotError::Unknown { .. })) => return Err(error),
            found => found.ok(),
        };
        remove_folder(&self.folder.join(name), GONE)?;
        if let Some(snapshot) = found {
            snapshot.note("remove", places, &[]);
        }
        Ok(())
    }

    /// Which snapshot needs an image, in words.
    pub(crate) fn image_user(&self, image: Digest) -> Option<String> {
        let image = image.to_string();
        match self.list() {
            Ok(all) => {
                let user = all.into_iter().find(|one| one.description.container.image_id == image);
                user.map(|snapshot| format!("snapshot {}", snapshot.name))
            }
            // Whoever cannot be asked may well use it.
            Err(_) => Some("a snapshot that cannot be read".to_owned()),
        }
    }

    /// Begins one.
    pub(crate) fn begin(&self, name: &SnapshotName) -> Result<Unfinished, Error> {
        create_private(&self.folder)?;
        self.sweep();
        let name = name.to_string();
        let path = self.folder.join(format!("{LOCK}{name}"));
        let lock = try_lock(&path).map_err(file_error("lock", &path))?;
        let lock = lock.ok_or_else(|| SnapshotError::Busy { name: name.clone() })?;
        let snapshots = self.clone();
        let unfinished = Unfinished { name, snapshots, is_published: false, lock };
        if self.folder.join(&unfinished.name).exists() {
            return Err(SnapshotError::NameInUse { name: unfinished.name.clone() }.into());
        }
        let folder = unfinished.folder();
        // Nobody finds what a killed maker has left.
        let _ = fs::remove_dir_all(&folder);
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(file_error("create", &folder))?;
        Ok(unfinished)
    }

    fn read(&self, name: &str) -> Result<Option<Snapshot>, Error> {
        let folder = self.folder.join(name);
        let path = folder.join(DESCRIPTION);
        let text = match fs::metadata(&path).and_then(|metadata| {
            if metadata.len() > MAX_DESCRIPTION_BYTES {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            fs::read(&path)
        }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
                return Ok(None);
            }
            text => text.map_err(file_error("read", &path))?,
        };
        let description = Description::parse(&text, name)?;
        Ok(Some(Snapshot { name: name.to_owned(), description, folder }))
    }

    /// Removes what killed processes have left, if it can be: the next who looks tries again.
    fn sweep(&self) {
        for entry in self.names().unwrap_or_default() {
            let path = self.folder.join(&entry);
            if entry.starts_with(GONE) {
                let _ = fs::remove_dir_all(&path);
            } else if let Some(name) = entry.strip_prefix(LOCK).or(entry.strip_prefix(NEW)) {
                // Whoever holds the lock is making the snapshot.
                let lock = self.folder.join(format!("{LOCK}{name}"));
                let Ok(Some(_locked)) = try_lock(&lock) else { continue };
                let _ = fs::remove_dir_all(self.folder.join(format!("{NEW}{name}")));
                let _ = fs::remove_file(&lock);
            }
        }
    }

    /// The names of what is in the folder; none where there never was one.
    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = file_error("read", &self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>),
        };
        let entries = entries.map_err(failed)?.into_iter();
        Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

impl Unfinished {
    /// What it will be called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are made.
    pub(crate) fn folder(&self) -> PathBuf {
        self.snapshots.folder.join(format!("{NEW}{}", self.name))
    }

    /// Makes one of its files, empty.
    pub(crate) fn create(&self, name: &str) -> Result<File, Error> {
        let path = self.folder().join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(&path).map_err(file_error("create", &path))
    }

    /// Makes those of its files that whoever saves a container fills.
    pub(crate) fn create_own(&self) -> Result<(), Error> {
        OWN.into_iter().try_for_each(|name| self.create(name).map(drop))
    }

    /// What it will be, before anybody finds it.
    pub(crate) fn described(&self, description: Description) -> Snapshot {
        Snapshot { name: self.name.clone(), description, folder: self.folder() }
    }

    /// Makes it known, with all that is in it on the disk.
    pub(crate) fn publish(mut self, description: Description) -> Result<Snapshot, Error> {
        let folder = self.folder();
        let text = serde_json::to_vec(&description).expect("words and numbers are JSON");
        let blank = [BLANK].into_iter().filter(|_| description.container.ground == Ground::Own);
        let names = OWN.into_iter().chain(blank).map(str::to_owned);
        // What lies beneath was synced when it was made, but for what was made with this one.
        let beneath = (description.beneath > 0).then(|| layer(SCRATCH, 1));
        for name in names.chain(beneath) {
            let path = folder.join(name);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(file_error("sync", &path))?;
        }
        write(&folder, DESCRIPTION, &text, Durability::Synced)?;
        let path = self.snapshots.folder.join(&self.name);
        fs::rename(&folder, &path).map_err(file_error("create", &path))?;
        self.is_published = true;
        sync_folder(&self.snapshots.folder)?;
        Ok(Snapshot { name: self.name.clone(), description, folder: path })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next who looks.
        if !self.is_published {
            let _ = fs::remove_dir_all(self.folder());
        }
        let _ = fs::remove_file(self.snapshots.folder.join(format!("{LOCK}{}", self.name)));
    }
}

/// How much of the disk snapshots take together, in bytes: what they share counts once.
#[must_use]
pub fn bytes_of_all(all: &[Snapshot]) -> u64 {
    let files = all.iter().flat_map(Snapshot::files);
    let files = files.map(|file| ((file.dev(), file.ino()), file.blocks()));
    files.collect::<BTreeMap<_, _>>().into_values().sum::<u64>() * 512
}

/// The name of a file that lies beneath another one; that itself is 0.
fn layer(name: &str, index: u8) -> String {
    if index == 0 { name.to_owned() } else { format!("{name}.{index}") }
}

/// Puts a file's bytes, which nobody changes, at another place: the same file if the file system lets it, else
/// a copy.
fn share(from: &Path, to: &Path) -> Result<(), Error> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let opened = File::open(from).map_err(file_error("open", from))?;
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    let copy = options.open(to).map_err(file_error("create", to))?;
    vmm::copy_sparse(&opened, &copy).map(drop).map_err(file_error("write", to))
}

#[cfg(test)]
mod tests;
