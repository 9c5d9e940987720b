//! The containers of this host: a folder for each, with what it is, how far it has come, its writable
//! disk, its log and its sockets.
//!
//! There is no daemon: who reads finds out what is true. A container whose state says that somebody
//! looks after it, and whose lock is free, has lost its supervisor; the reader puts that right. docs/
//! lifecycle.md tells who may write what, and why a crash at any moment loses nothing.

pub(crate) mod files;
mod home;
mod record;
mod register;
mod repair;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(crate) use self::home::Home;
pub(crate) use self::record::VERSION;
#[cfg(test)]
pub(crate) use self::record::tests::sample;
pub use self::record::{CopyOf, Record, State, Status, Unread};
pub(crate) use self::register::{Claim, Register, Visiting};

use images::EventLog;
use protocol::ContainerSpec;
use serde::de::DeserializeOwned;

use self::files::{create_private, file_error, is_locked};
use self::record::{DocumentError, Head};
use crate::error::Error;
use crate::health::{Health, HealthStatus};
use crate::logs;
use crate::network::Networks;
use crate::options::ContainerPort;
use crate::places::Places;
use crate::snapshots::Snapshots;

const RECORD: &str = "container.json";
const STATE: &str = "state.json";
const HEALTH: &str = "health.json";
/// The writable disk of a container that is kept.
pub(crate) const OVERLAY: &str = "overlay.img";
/// The machine's socket and the supervisor's.
pub(crate) const MACHINE_SOCKET: &str = "vsock.sock";
pub(crate) const CONTROL_SOCKET: &str = "control.sock";
/// What the names of other folders begin with.
const GONE: &str = "gone-";
const BROKEN: &str = "broken-";
const MACHINE: &str = "machine-";
/// In how much of a record the id and the name stand.
const HEAD_BYTES: usize = 512;
/// The digits of an id.
const ID_DIGITS: usize = 64;
/// The digits that a person sees.
const SHORT_DIGITS: usize = 12;

/// All containers under one root.
#[derive(Clone, Debug)]
pub struct Containers {
    folder: PathBuf,
}

/// A container as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Found<C = ContainerSpec> {
    /// What it is.
    pub record: Record<C>,
    /// How far it has come.
    pub state: State,
    folder: PathBuf,
}

impl Found {
    /// A container as if it had been found in a folder.
    #[cfg(test)]
    pub(crate) fn new(record: Record, state: State, folder: &Path) -> Self {
        Self { record, state, folder: folder.to_owned() }
    }
}

impl<C> Found<C> {
    /// The id as a person sees it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.record.id.get(..SHORT_DIGITS).unwrap_or(&self.record.id)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that its output goes to.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        logs::path(&self.folder, &self.record.id)
    }

    /// What its checks have told; none if nothing is checked. One that does not run is not well, as
    /// Docker has it.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.record.keeping.health.as_ref()?.command()?;
        self.state.started?;
        let text = read_document(&self.folder, HEALTH).ok().flatten();
        let mut health: Health =
            text.and_then(|text| record::parse(&text).ok()).unwrap_or_default();
        if !matches!(self.state.status, Status::Running | Status::Paused) {
            health.status = HealthStatus::Unhealthy;
        }
        Some(health)
    }

    /// Each of its ports, with those of the host that lead to it; none while it does not run, or is on no
    /// network.
    #[must_use]
    pub fn ports(&self) -> BTreeMap<ContainerPort, Vec<SocketAddr>> {
        let runs = matches!(self.state.status, Status::Running | Status::Paused);
        if !runs || !self.record.is_reached() {
            return BTreeMap::new();
        }
        let mut ports: BTreeMap<_, Vec<_>> =
            self.record.ports.known().into_iter().map(|port| (port, Vec::new())).collect();
        for published in &self.state.ports {
            ports.entry(published.port).or_default().push(published.host);
        }
        ports.values_mut().for_each(|hosts| hosts.sort_unstable());
        ports
    }

    /// How much of the disk that holds takes what it has written, in bytes.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        // One that is removed when it ends has a disk without a name.
        fs::metadata(self.folder.join(OVERLAY)).map_or(0, |file| file.blocks() * 512)
    }
}

/// What became of a folder that was looked at.
enum Reading<C> {
    Whole(Box<Found<C>>),
    /// Its supervisor was killed.
    Orphaned(Box<Found<C>>),
    /// It was left behind while it was made.
    HalfMade,
    /// It cannot be read.
    Broken(String),
    /// Another version has written it, and this one leaves it alone.
    Newer(String),
    /// It was removed meanwhile.
    Gone,
}

impl Containers {
    /// The containers of these places.
    #[must_use]
    pub fn of(places: &Places) -> Self {
        Self { folder: places.containers() }
    }

    /// All of them, the youngest first. What is broken is put aside, and told on stderr.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Found>, Error> {
        self.list_as()
    }

    /// All of them as [`list`](Self::list) has them, without what their agents are told.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list_unread(&self) -> Result<Vec<Found<Unread>>, Error> {
        self.list_as()
    }

    fn list_as<C: DeserializeOwned>(&self) -> Result<Vec<Found<C>>, Error> {
        let mut found = Vec::new();
        for folder in self.folders()? {
            found.extend(self.look(&folder)?);
        }
        found.sort_by_key(|found: &Found<C>| std::cmp::Reverse(found.record.created));
        Ok(found)
    }

    /// The container in a folder, if there is one. What is wrong with it is put right.
    fn look<C: DeserializeOwned>(&self, folder: &Path) -> Result<Option<Found<C>>, Error> {
        match read(folder)? {
            Reading::Whole(container) => return Ok(Some(*container)),
            Reading::Gone => {}
            Reading::Newer(reason) => repair::say_newer(folder, &reason),
            Reading::HalfMade | Reading::Orphaned(_) | Reading::Broken(_) => {
                return self.register()?.mend(folder);
            }
        }
        Ok(None)
    }

    /// Those that can be read, as they are written down and without what their agents are told: nothing is put right,
    /// and nobody told.
    #[must_use]
    pub fn peek(&self) -> Vec<Found<Unread>> {
        let folders = self.folders().unwrap_or_default();
        let read = |folder: PathBuf| match read(&folder) {
            Ok(Reading::Whole(found) | Reading::Orphaned(found)) => Some(*found),
            _ => None,
        };
        folders.into_iter().filter_map(read).collect()
    }

    /// The one with this name, this id, or the only one whose id begins like this.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, words: &str) -> Result<Found, Error> {
        let mut heads = Vec::new();
        for folder in self.folders()? {
            heads.extend(head_or(&folder, || self.look(&folder))?);
        }
        let Head { id, .. } = find(heads, words)?;
        self.look_again(&id)?.ok_or_else(|| unknown(words))
    }

    /// What belongs to this container now; none when it was removed.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn look_again(&self, id: &str) -> Result<Option<Found>, Error> {
        let folder = self.folder.join(id);
        match read(&folder)? {
            Reading::Whole(container) => Ok(Some(*container)),
            Reading::Gone | Reading::Newer(_) => Ok(None),
            _ => self.register()?.mend(&folder),
        }
    }

    /// Which container uses an image, whether it runs or not, or which snapshot, in words.
    #[must_use]
    pub fn image_user(&self, image: images::Digest) -> Option<String> {
        let words = image.to_string();
        match self.list_unread() {
            Ok(all) => {
                let user = all.into_iter().find(|found| found.record.image_id == words);
                let Some(user) = user else { return self.snapshots().image_user(image) };
                let runs = user.state.status.is_supervised();
                let kind = if runs { "running" } else { "stopped" };
                Some(format!("{kind} container {}", user.short_id()))
            }
            // Whoever cannot be asked may well use it.
            Err(_) => Some("a container that cannot be read".to_owned()),
        }
    }

    /// Where it is written down what happens to them.
    pub(crate) fn events(&self) -> EventLog {
        events_of(&self.folder)
    }

    /// Those that were made of them.
    fn snapshots(&self) -> Snapshots {
        let data = self.folder.parent().unwrap_or(&self.folder).to_owned();
        Snapshots::of(&Places { data })
    }

    /// The networks that they are on.
    pub(crate) fn networks(&self) -> Networks {
        networks_of(&self.folder)
    }

    /// The folders of containers; none when there never was one.
    fn folders(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(file_error("read", &self.folder))?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry.map_err(file_error("read", &self.folder))?;
            let name = entry.file_name();
            if name.to_str().is_some_and(is_id) {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    }

    /// Takes a container to start it, as [`Register::claim`] does, when nobody is at its files.
    pub(crate) fn claim(&self, words: &str) -> Result<Claim, Error> {
        self.when_alone(|register| register.claim(words))
    }

    /// Takes the files of a container that does not run, when nobody else is at them.
    pub(crate) fn visit(&self, words: &str) -> Result<Visiting, Error> {
        self.when_alone(|register| register.visit(words))
    }

    /// Removes a container that nobody looks after, when nobody is at its files.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Error> {
        self.when_alone(|register| register.remove(id))
    }

    /// Does something with the register, and waits without it for whoever is in the way.
    fn when_alone<T>(&self, action: impl Fn(&Register) -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match action(&self.register()?) {
                Err(Error::Visited { folder, .. }) => {
                    drop(files::lock_named(&folder, files::VISIT));
                }
                done => return done,
            }
        }
    }

    /// Makes sure that nobody else makes, renames or mends containers meanwhile.
    pub(crate) fn register(&self) -> Result<Register, Error> {
        create_private(&self.folder)?;
        Register::lock(&self.folder)
    }
}

/// The log of events that belongs to a folder of containers.
fn events_of(containers: &Path) -> EventLog {
    EventLog::under(containers.parent().unwrap_or(containers))
}

/// The networks that belong to a folder of containers.
fn networks_of(containers: &Path) -> Networks {
    let data = containers.parent().unwrap_or(containers).to_owned();
    Networks::open(&Places { data })
}

fn is_id(name: &str) -> bool {
    name.len() == ID_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Name, then id, then the beginning of an id.
fn find(all: Vec<Head>, words: &str) -> Result<Head, Error> {
    let words = words.strip_prefix('/').unwrap_or(words);
    let mut matches = Vec::new();
    for head in all {
        if head.name == words || head.id == words {
            return Ok(head);
        }
        if !words.is_empty() && head.id.starts_with(words) {
            matches.push(head);
        }
    }
    match (matches.pop(), matches.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(Error::AmbiguousContainer { words: words.to_owned() }),
        (None, _) => Err(unknown(words)),
    }
}

fn unknown(words: &str) -> Error {
    Error::UnknownContainer { words: words.strip_prefix('/').unwrap_or(words).to_owned() }
}

/// What the container in a folder goes by. Where that cannot be read, `look` tells what there is.
fn head_or(
    folder: &Path,
    look: impl FnOnce() -> Result<Option<Found<Unread>>, Error>,
) -> Result<Option<Head>, Error> {
    let mut beginning = [0; HEAD_BYTES];
    let read = File::open(folder.join(RECORD)).and_then(|mut file| file.read(&mut beginning));
    match record::head(&beginning[..read.unwrap_or(0)]) {
        Some(head) => Ok(Some(head)),
        None => Ok(look()?.map(|found| found.record.head())),
    }
}

/// Reads what lies in a container's folder.
fn read<C: DeserializeOwned>(folder: &Path) -> Result<Reading<C>, Error> {
    let Some(text) = read_document(folder, RECORD)? else {
        return Ok(if folder.exists() { Reading::HalfMade } else { Reading::Gone });
    };
    let record: Record<C> = match record::parse(&text) {
        Ok(record) => record,
        Err(error) => return Ok(unusable(RECORD, &error)),
    };
    let Some(text) = read_document(folder, STATE)? else {
        return Ok(if folder.exists() { Reading::HalfMade } else { Reading::Gone });
    };
    let state: State = match record::parse(&text) {
        Ok(state) => state,
        Err(error) => return Ok(unusable(STATE, &error)),
    };
    let orphaned = state.status.is_supervised() && !is_locked(folder);
    let found = Box::new(Found { record, state, folder: folder.to_owned() });
    Ok(if orphaned { Reading::Orphaned(found) } else { Reading::Whole(found) })
}

fn unusable<C>(name: &str, error: &DocumentError) -> Reading<C> {
    let reason = format!("{name}: {error}");
    match error {
        DocumentError::Newer { .. } => Reading::Newer(reason),
        DocumentError::Broken(_) => Reading::Broken(reason),
    }
}

/// A document that is empty was never written: it is as good as none.
fn read_document(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(file_error("read", &path)(error)),
    }
}

#[cfg(test)]
pub(crate) fn sample_record(name: &str) -> Record {
    record::tests::sample("", name)
}

#[cfg(test)]
mod tests;
