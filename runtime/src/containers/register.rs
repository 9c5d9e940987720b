//! The register of containers: whoever has locked it is the only one who makes, claims, renames,
//! removes or mends any.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use serde::de::DeserializeOwned;

use super::files::{self, Durability, VISIT, create_private, file_error, is_locked, open_lock};
use super::record::{Head, Record, State, Status, Unread};
use super::{
    BROKEN, Found, GONE, Home, MACHINE, RECORD, Reading, find, head_or, is_id, networks_of, read,
    repair, unknown,
};
use crate::error::Error;
use crate::host;
use crate::host_cgroup;
use crate::spec::ContainerName;

const REGISTER_LOCK: &str = ".lock";

/// The locked register.
#[derive(Debug)]
pub(crate) struct Register {
    folder: PathBuf,
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock")]
    lock: File,
}

/// What became of an attempt to look after a container.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is ours to start.
    Ours(Home, Box<Found>),
    /// Somebody looks after it already.
    Taken(Box<Found>),
}

/// What became of an attempt to get at the files of a container.
#[derive(Debug)]
pub(crate) enum Visiting {
    /// It does not run, and does not begin to as long as the lock is held.
    Ours(Box<Found>, File),
    /// Its supervisor can be asked.
    Supervised(Box<Found>),
}

impl Register {
    pub(super) fn lock(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(REGISTER_LOCK);
        let lock = open_lock(&path)?;
        retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
            .map_err(|error| file_error("lock", &path)(error.into()))?;
        Ok(Self { folder: folder.to_owned(), lock })
    }

    /// Makes a container's folder, with a record whose id it chooses and that `join` completes; gives it
    /// locked, in the state of one that is being started.
    pub(crate) fn create(
        &self,
        mut record: Record,
        join: impl FnOnce(&mut Record) -> Result<(), Error>,
    ) -> Result<(Home, Record), Error> {
        self.sweep()?;
        self.check_free(&record.name)?;
        record.id = new_id()?;
        let durability = durability(&record);
        let path = self.folder.join(&record.id);
        create_private(&path)?;
        let lock = files::lock(&path)?;
        let home = Home::open(path, durability, lock)?;
        let made = home
            .write_state(&State::new(Status::Starting))
            .and_then(|()| join(&mut record))
            .and_then(|()| write_record(home.path(), &record, durability))
            .and_then(|()| files::sync(&self.folder, durability));
        match made {
            Ok(()) => Ok((home, record)),
            Err(error) => {
                home.remove(&record);
                Err(error)
            }
        }
    }

    /// Makes a folder for a machine that is no container's.
    pub(crate) fn machine(&self) -> Result<Home, Error> {
        self.sweep()?;
        let path = self.folder.join(format!("{MACHINE}{}", new_id()?));
        create_private(&path)?;
        let lock = files::lock(&path)?;
        Home::open(path, Durability::Fleeting, lock)
    }

    /// Takes a container to start it, unless somebody looks after it. One that is just ending is
    /// waited for.
    pub(crate) fn claim(&self, words: &str) -> Result<Claim, Error> {
        let found = self.find(words)?;
        if found.state.status.is_supervised() {
            return Ok(Claim::Taken(Box::new(found)));
        }
        let home = self.enter(&found)?;
        home.write_state(&State { status: Status::Starting, ..found.state.clone() })?;
        Ok(Claim::Ours(home, Box::new(found)))
    }

    /// Takes the files of a container that does not run.
    ///
    /// # Errors
    /// [`Error::Visited`] when somebody else is at them.
    pub(crate) fn visit(&self, words: &str) -> Result<Visiting, Error> {
        let found = self.find(words)?;
        if found.state.status.is_supervised() {
            return Ok(Visiting::Supervised(Box::new(found)));
        }
        // Whoever has just looked after it is waited for.
        drop(self.enter(&found)?);
        let lock = files::lock_named(&found.folder, VISIT)?;
        Ok(Visiting::Ours(Box::new(found), lock))
    }

    /// Gives a container another name; what it was before.
    pub(crate) fn rename(&self, words: &str, name: &ContainerName) -> Result<Record, Error> {
        let found = self.find(words)?;
        self.check_free(name.as_str())?;
        change(&found, |record| Record { name: name.to_string(), ..record })?;
        Ok(found.record)
    }

    /// Changes what is written down about a container.
    pub(crate) fn change(
        &self,
        id: &str,
        changed: impl FnOnce(Record) -> Record,
    ) -> Result<(), Error> {
        change(&self.find(id)?, changed)
    }

    /// Removes a container that nobody looks after.
    ///
    /// # Errors
    /// When somebody does, or it cannot be removed.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Error> {
        let found = self.find(id)?;
        if found.state.status.is_supervised() {
            return Err(Error::StillRunning { name: found.record.name, state: found.state.status });
        }
        drop(self.enter(&found)?);
        host_cgroup::remove(&found.record.id);
        networks_of(&self.folder).leave_all(&found.record);
        files::remove_folder(&found.folder, GONE)
    }

    /// Waits for the end of whoever has just looked after a container, and takes its place.
    fn enter(&self, found: &Found) -> Result<Home, Error> {
        let unknown = || Error::UnknownContainer { words: found.record.name.clone() };
        if !found.folder.exists() {
            return Err(unknown());
        }
        if files::is_held(&found.folder, VISIT) {
            let (name, folder) = (found.record.name.clone(), found.folder.clone());
            return Err(Error::Visited { name, folder });
        }
        let lock = files::lock(&found.folder)?;
        if !found.folder.join(RECORD).exists() {
            return Err(unknown());
        }
        Home::open(found.folder.clone(), durability(&found.record), lock)
    }

    /// Looks at a folder again, now that nobody changes it, and puts right what is wrong with it; the
    /// container in it, if there still is one.
    pub(super) fn mend<C: DeserializeOwned>(
        &self,
        folder: &Path,
    ) -> Result<Option<Found<C>>, Error> {
        match read(folder)? {
            Reading::Whole(found) => Ok(Some(*found)),
            Reading::Gone | Reading::Newer(_) => Ok(None),
            Reading::Orphaned(found) => repair::bury_supervisor(*found),
            Reading::HalfMade => {
                files::remove_folder(folder, GONE)?;
                Ok(None)
            }
            Reading::Broken(reason) => {
                repair::set_aside(folder, &reason)?;
                Ok(None)
            }
        }
    }

    fn find(&self, words: &str) -> Result<Found, Error> {
        let Head { id, .. } = find(self.heads()?, words)?;
        self.mend(&self.folder.join(id))?.ok_or_else(|| unknown(words))
    }

    /// Makes sure that no container has a name.
    fn check_free(&self, name: &str) -> Result<(), Error> {
        for other in self.heads()?.into_iter().filter(|other| other.name == name) {
            // One that was to be removed at its end may be gone with its supervisor.
            if let Some(Found { record, .. }) = self.mend::<Unread>(&self.folder.join(other.id))? {
                return Err(Error::NameInUse { name: record.name, id: record.id });
            }
        }
        Ok(())
    }

    fn heads(&self) -> Result<Vec<Head>, Error> {
        let mut heads = Vec::new();
        for name in self.names()?.iter().filter(|name| is_id(name)) {
            let folder = self.folder.join(name);
            heads.extend(head_or(&folder, || self.mend(&folder))?);
        }
        Ok(heads)
    }

    /// Removes what killed processes have left of folders.
    fn sweep(&self) -> Result<(), Error> {
        for name in self.names()? {
            let path = self.folder.join(&name);
            let dead_machine = || name.starts_with(MACHINE) && !is_locked(&path);
            if name.starts_with(GONE) || dead_machine() {
                // It is out of everybody's way: what fails is tried again the next time.
                let _ = fs::remove_dir_all(&path);
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = file_error("read", &self.folder);
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let names = entries.map_err(failed)?.into_iter();
        Ok(names.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

fn change(found: &Found, changed: impl FnOnce(Record) -> Record) -> Result<(), Error> {
    let record = changed(found.record.clone());
    write_record(&found.folder, &record, durability(&record))
}

/// A container that is removed when it ends does not outlive a crash of the host.
fn durability(record: &Record) -> Durability {
    if record.keeping.auto_remove { Durability::Fleeting } else { Durability::Synced }
}

fn write_record(folder: &Path, record: &Record, durability: Durability) -> Result<(), Error> {
    let text = serde_json::to_vec(record).expect("a record of words and numbers is JSON");
    files::write(folder, RECORD, &text, durability)
}

/// 64 hex digits, as Docker's.
fn new_id() -> Result<String, Error> {
    let bytes: [u8; 32] = host::random()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where a broken folder is kept.
pub(super) fn aside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!("{BROKEN}{name}"))
}
