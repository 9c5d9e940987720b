//! The files of a container's folder: written as a whole or not at all, locked, removed in one step.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::error::Error;

/// The lock of a container: whoever looks after it holds it.
pub(super) const LOCK: &str = "lock";
/// The lock of the files of a container that does not run: whoever is at them holds it.
pub(super) const VISIT: &str = "visit.lock";

/// Whether a document must be there after a crash of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It must.
    Synced,
    /// What it tells of does not outlive such a crash.
    Fleeting,
}

/// Writes a document beside its place and moves it there.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    text: &[u8],
    durability: Durability,
) -> Result<(), Error> {
    draft(folder, name, text, durability)?;
    show(folder, name)?;
    sync(folder, durability)
}

/// Writes a document beside its place, where nobody looks.
pub(super) fn draft(
    folder: &Path,
    name: &str,
    text: &[u8],
    durability: Durability,
) -> Result<(), Error> {
    let new = draft_path(folder, name);
    write_new(&new, text, durability).map_err(|error| {
        // On a full disk, not even half a document stays.
        let _ = fs::remove_file(&new);
        file_error("write", &new)(error)
    })
}

/// Moves a document that was written beside its place there.
pub(super) fn show(folder: &Path, name: &str) -> Result<(), Error> {
    let path = folder.join(name);
    fs::rename(draft_path(folder, name), &path).map_err(file_error("write", &path))
}

/// Makes what was moved in a folder be there after a crash of the host, if it must.
pub(super) fn sync(folder: &Path, durability: Durability) -> Result<(), Error> {
    match durability {
        Durability::Synced => sync_folder(folder),
        Durability::Fleeting => Ok(()),
    }
}

fn draft_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.new"))
}

fn write_new(path: &Path, text: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    match durability {
        Durability::Synced => file.sync_all(),
        Durability::Fleeting => Ok(()),
    }
}

/// Makes what was renamed in a folder survive a crash of the host.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(file_error("sync", folder))
}

/// Waits for the lock of the container in `folder`, and takes it.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    lock_named(folder, LOCK)
}

/// Waits for one of the locks of the container in `folder`, and takes it.
pub(super) fn lock_named(folder: &Path, name: &str) -> Result<File, Error> {
    let path = folder.join(name);
    let lock = open_lock(&path)?;
    retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
        .map_err(|error| file_error("lock", &path)(error.into()))?;
    Ok(lock)
}

/// Whether somebody holds the lock of the container in `folder`.
pub(super) fn is_locked(folder: &Path) -> bool {
    is_held(folder, LOCK)
}

/// Whether somebody holds one of the locks of the container in `folder`.
pub(super) fn is_held(folder: &Path, name: &str) -> bool {
    File::open(folder.join(name)).is_ok_and(|lock| {
        // Shared, so that two who look at once do not take each other for a supervisor.
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Opens a file to be locked.
pub(crate) fn open_lock(path: &Path) -> Result<File, Error> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let lock = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| file_error("open", path)(error.into()))?;
    Ok(lock.into())
}

/// Makes a folder that is this user's alone.
pub(crate) fn create_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(file_error("create", path))
}

/// Moves a folder out of sight and removes it: a crash leaves it whole, or out of sight.
pub(crate) fn remove_folder(path: &Path, out_of_sight: &str) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let grave = path.with_file_name(format!("{out_of_sight}{name}"));
    match fs::rename(path, &grave) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        moved => moved.map_err(file_error("remove", path))?,
    }
    // What is left of it goes with the next container that is made.
    let _ = fs::remove_dir_all(&grave);
    Ok(())
}

pub(crate) fn file_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> Error + use<> {
    let path: PathBuf = path.to_owned();
    move |source| Error::File { action, path, source }
}
