//! A container's folder in the hands of whoever looks after it: what is written there while it lives.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::files::{self, Durability, file_error};
use super::record::{self, Record, State};
use super::{GONE, HEALTH, OVERLAY, RECORD, STATE, networks_of, read_document, repair};
use crate::error::Error;
use crate::health::Health;

/// A container's folder, held by whoever looks after it. It is held as long as somebody has
/// [`Self::lock`], which a fork shares.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// The folder itself, for `/proc/self/fd` paths that are never too long for a socket.
    pub(crate) folder: File,
    durability: Durability,
    /// The state that lies beside its place.
    draft: RefCell<Option<State>>,
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock until the last process closes it")]
    lock: File,
}

impl Home {
    pub(super) fn open(path: PathBuf, durability: Durability, lock: File) -> Result<Self, Error> {
        let folder = File::open(&path).map_err(file_error("open", &path))?;
        Ok(Self { path, folder, durability, draft: RefCell::new(None), lock })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its record lies.
    pub(crate) fn record_path(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// Writes down how far the container has come.
    pub(crate) fn write_state(&self, state: &State) -> Result<(), Error> {
        self.show_state(state)?;
        self.sync_state()
    }

    /// Writes down how far the container has come, for whoever looks. After a crash of the host it may be as far
    /// as before, until [`Self::sync_state`].
    pub(crate) fn show_state(&self, state: &State) -> Result<(), Error> {
        if self.draft.take().is_none_or(|draft| !draft.is_as(state)) {
            files::draft(&self.path, STATE, &to_text(state), self.durability)?;
        }
        files::show(&self.path, STATE)
    }

    /// Makes the state that was shown last outlive a crash of the host, if the container does.
    pub(crate) fn sync_state(&self) -> Result<(), Error> {
        files::sync(&self.path, self.durability)
    }

    /// Writes how far the container will have come beside its place, so that the disk is waited for
    /// ahead. It holds if it is written down next, whenever that is: but for the moment of its end.
    pub(crate) fn draft_state(&self, state: State) {
        let drafted = files::draft(&self.path, STATE, &to_text(&state), self.durability);
        // What fails is tried again by who writes it down, and told.
        self.draft.replace(drafted.is_ok().then_some(state));
    }

    /// Writes down what checks have told, which no crash of the host outlives.
    pub(crate) fn write_health(&self, health: &Health) -> Result<(), Error> {
        let text = serde_json::to_vec(health).expect("words and numbers are JSON");
        files::write(&self.path, HEALTH, &text, Durability::Fleeting)
    }

    /// What is written down about the container now: it may have got another name or policy since it
    /// was started. None when that cannot be read.
    pub(crate) fn read_record(&self) -> Option<Record> {
        let text = read_document(&self.path, RECORD).ok()??;
        record::parse(&text).ok()
    }

    /// Takes away the sockets of a machine that has ended.
    pub(crate) fn remove_sockets(&self) {
        repair::remove_sockets(&self.path);
    }

    /// Takes away its writable disk, which is new.
    pub(crate) fn remove_overlay(&self) {
        // It is not there where the container is not kept.
        let _ = fs::remove_file(self.path.join(OVERLAY));
    }

    /// Takes the folder away with all that is in it, and the container's places on networks.
    pub(crate) fn remove(&self, record: &Record) {
        networks_of(self.path.parent().unwrap_or(&self.path)).leave_all(record);
        self.remove_machine();
    }

    /// Takes away the folder of a machine that is no container's.
    pub(crate) fn remove_machine(&self) {
        // Nobody is left to be told, and the next container that is made tries again.
        let _ = files::remove_folder(&self.path, GONE);
    }
}

fn to_text(state: &State) -> Vec<u8> {
    serde_json::to_vec(state).expect("a state of words and numbers is JSON")
}
