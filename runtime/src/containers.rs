//! The folders of running containers: made and locked by the one that starts, removed by its
//! supervisor, and swept by the next run when that was killed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::host;
use crate::spec::ContainerName;

const LOCK: &str = "lock";
const RECORD: &str = "container.json";
const RECORD_VERSION: u32 = 1;

/// What others may know about a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    id: String,
    name: Option<String>,
    image: String,
}

/// A container's folder. It is alive as long as someone holds [`Self::lock`], which a fork shares.
#[derive(Debug)]
pub(crate) struct Container {
    path: PathBuf,
    /// The folder itself, for `/proc/self/fd` paths that are never too long for a socket.
    pub(crate) folder: File,
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock until the last process closes it")]
    lock: File,
}

impl Container {
    /// Makes a container's folder under `containers`, sweeping those of the dead.
    pub(crate) fn create(
        containers: &Path,
        name: Option<&ContainerName>,
        image: &str,
    ) -> Result<Self, Error> {
        create_private(containers)?;
        let _register = lock_register(containers)?;
        let id = new_id()?;
        for other in sweep(containers)? {
            let taken = name.filter(|name| other.name.as_deref() == Some(name.as_str()));
            if let Some(name) = taken {
                return Err(Error::NameInUse { name: name.to_string(), id: other.id });
            }
        }
        let path = containers.join(&id);
        let container = Self::make_folder(path)?;
        let name = name.map(|name| name.as_str().to_owned());
        let record = Record { version: RECORD_VERSION, id, name, image: image.to_owned() };
        container.write(&record).inspect_err(|_| container.remove())?;
        Ok(container)
    }

    /// Takes the folder away with all that is in it.
    pub(crate) fn remove(&self) {
        // Nobody is left to be told, and the next run tries again.
        let _ = fs::remove_dir_all(&self.path);
    }

    fn make_folder(path: PathBuf) -> Result<Self, Error> {
        create_private(&path)?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(file_error("create", &lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| file_error("lock", &lock_path)(error.into()))?;
        let folder = File::open(&path).map_err(file_error("open", &path))?;
        Ok(Self { path, folder, lock })
    }

    fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.path.join(RECORD);
        let text = serde_json::to_vec(record).expect("a record of strings is JSON");
        fs::write(&path, text).map_err(file_error("write", &path))
    }
}

/// Removes the folders of containers whose supervisor was killed.
pub(crate) fn sweep_dead(containers: &Path) -> Result<(), Error> {
    let _register = lock_register(containers)?;
    sweep(containers).map(drop)
}

/// Removes what belongs to no live container; the records of the others.
fn sweep(containers: &Path) -> Result<Vec<Record>, Error> {
    let mut alive = Vec::new();
    for entry in fs::read_dir(containers).map_err(file_error("read", containers))? {
        let path = entry.map_err(file_error("read", containers))?.path();
        if !path.is_dir() {
            continue;
        }
        if is_alive(&path) {
            alive.extend(read_record(&path));
        } else {
            fs::remove_dir_all(&path).map_err(file_error("remove", &path))?;
        }
    }
    Ok(alive)
}

/// A folder without a lock file was left behind between two steps: the register is locked now, so
/// nobody is making it.
fn is_alive(path: &Path) -> bool {
    File::open(path.join(LOCK)).is_ok_and(|lock| {
        flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
    })
}

fn read_record(path: &Path) -> Option<Record> {
    let text = fs::read(path.join(RECORD)).ok()?;
    serde_json::from_slice(&text).ok().filter(|record: &Record| record.version == RECORD_VERSION)
}

/// Whoever holds this is the only one who makes or sweeps folders.
fn lock_register(containers: &Path) -> Result<File, Error> {
    let path = containers.join(".lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let lock = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| file_error("open", &path)(error.into()))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| file_error("lock", &path)(error.into()))?;
    Ok(lock.into())
}

fn create_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(file_error("create", path))
}

/// 64 hex digits, as Docker's.
fn new_id() -> Result<String, Error> {
    let bytes: [u8; 32] = host::random()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("hyperrun-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn folders(path: &Path) -> usize {
        fs::read_dir(path).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }

    #[test]
    fn a_name_belongs_to_one_live_container() {
        let root = folder("names");
        let name: ContainerName = "web".parse().unwrap();
        let first = Container::create(&root, Some(&name), "debian").unwrap();
        let second = Container::create(&root, Some(&name), "debian");
        assert!(matches!(second, Err(Error::NameInUse { name, .. }) if name == "web"));
        let unnamed = Container::create(&root, None, "debian").unwrap();
        assert_eq!(folders(&root), 2);
        drop(first);
        let third = Container::create(&root, Some(&name), "debian").unwrap();
        assert_eq!(folders(&root), 2, "the dead one was swept");
        third.remove();
        unnamed.remove();
        assert_eq!(folders(&root), 0);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_has_no_lock_is_swept() {
        let root = folder("sweep");
        fs::create_dir_all(root.join("half-made")).unwrap();
        sweep_dead(&root).unwrap();
        assert_eq!(folders(&root), 0);
        fs::remove_dir_all(&root).unwrap();
    }
}
