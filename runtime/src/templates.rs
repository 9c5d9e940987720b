//! Templates: machines saved when their agent was ready, from which others of the same shape go on.
//! One serves every image. A machine that boots for want of one is saved on its way.
//!
//! A template is a folder named by a hash of all that it depends on, so that one that no longer fits
//! is never found. It is made under another name and a lock, and renamed when it is whole and synced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use images::Digest;
use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, utimensat};
use vmm::config::{FileRange, SnapshotFiles, Start};

use crate::error::Error;
use crate::host;
use crate::plan::VmConfig;
use crate::working_set;

const STATE: &str = "state";
const MEMORY: &str = "memory";
const WORKING_SET: &str = "working-set";
/// How many templates are kept; the one used longest ago goes first.
const MOST: usize = 16;

/// The home of all templates.
#[derive(Debug)]
pub struct Templates {
    folder: PathBuf,
}

/// What a template depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe<'a> {
    /// The guest's kernel.
    pub(crate) kernel: &'a Path,
    /// The agent.
    pub(crate) agent: &'a Path,
    /// The machine's shape.
    pub(crate) shape: VmConfig,
}

/// A template as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name: a hash of what it depends on.
    pub key: String,
    /// The space it takes, in bytes.
    pub bytes: u64,
    /// When it was made or last used, in seconds since 1970.
    pub used: i64,
}

/// A template, open.
#[derive(Debug)]
pub(crate) struct Template {
    folder: PathBuf,
    files: SnapshotFiles,
    /// What its copies are known to write; none before the first of them has told.
    working_set: Option<Vec<FileRange>>,
}

impl Template {
    /// What a machine needs to go on from it; and where to note what that machine writes, if nobody
    /// has yet.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(crate) fn start(self) -> io::Result<(Start, Option<Unexplored>)> {
        let Self { folder, files, working_set } = self;
        let unexplored = match working_set {
            Some(_) => None,
            None => Some(Unexplored { folder, memory: files.memory.try_clone()? }),
        };
        Ok((Start::Restore { files, working_set: working_set.unwrap_or_default() }, unexplored))
    }
}

/// A template of which it is not known what its copies write.
#[derive(Debug)]
pub(crate) struct Unexplored {
    folder: PathBuf,
    memory: File,
}

impl Unexplored {
    /// Notes what a copy, the machine in this process, has written so far. What fails here is only
    /// slower later, and tried again.
    pub(crate) fn explore(self, process: i32) {
        let Ok(ranges) = working_set::look(process, &self.memory) else { return };
        let new = self.folder.join(format!("{WORKING_SET}.{process}"));
        if fs::write(&new, working_set::to_text(&ranges)).is_ok() {
            let _ = fs::rename(&new, self.folder.join(WORKING_SET));
        }
    }
}

/// Sets a template's age, for whoever has to choose which one goes. A read-only folder has no ages.
fn note_use(folder: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let _ = utimensat(CWD, folder, &times, AtFlags::empty());
}

/// A template that is being made. The lock in it keeps others from making the same.
#[derive(Debug)]
pub(crate) struct Unfinished {
    templates: Templates,
    key: String,
    state: File,
    memory: File,
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock until the last process closes it")]
    lock: File,
}

impl Templates {
    /// The templates in `folder`, which need not be there.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The template of this name, if there is one.
    pub(crate) fn find(&self, key: &str) -> Option<Template> {
        let folder = self.folder.join(key);
        let state = File::open(folder.join(STATE)).ok()?;
        let memory = File::open(folder.join(MEMORY)).ok()?;
        let working_set = fs::read_to_string(folder.join(WORKING_SET)).ok();
        let working_set = working_set.map(|text| working_set::from_text(&text));
        note_use(&folder);
        Some(Template { folder, files: SnapshotFiles { state, memory }, working_set })
    }

    /// Begins a template; none if somebody else is at it already.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn begin(&self, key: &str) -> io::Result<Option<Unfinished>> {
        fs::create_dir_all(&self.folder)?;
        let lock = File::create(self.folder.join(format!("{key}.lock")))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let folder = self.folder.join(format!("{key}.new"));
        // Somebody was killed over it.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder)?;
        let create = |name: &str| {
            File::options().read(true).write(true).create_new(true).open(folder.join(name))
        };
        let (state, memory) = (create(STATE)?, create(MEMORY)?);
        let templates = Self { folder: self.folder.clone() };
        Ok(Some(Unfinished { templates, key: key.to_owned(), state, memory, lock }))
    }

    /// Puts a template where nothing finds it.
    pub(crate) fn set_aside(&self, key: &str) {
        let aside = self.folder.join(format!("{key}.broken"));
        let _ = fs::remove_dir_all(&aside);
        // What cannot be renamed stays, and is met again.
        let _ = fs::rename(self.folder.join(key), aside);
    }

    /// All templates, the one used last first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let failed = |source| Error::File { action: "read", path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let key = entry.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && !key.contains('.') {
                let bytes = [STATE, MEMORY]
                    .iter()
                    .filter_map(|name| fs::metadata(entry.path().join(name)).ok())
                    .map(|file| file.blocks() * 512)
                    .sum();
                listed.push(Listed { key, bytes, used: metadata.mtime() });
            }
        }
        listed.sort_by_key(|template| std::cmp::Reverse(template.used));
        Ok(listed)
    }

    /// Removes the templates whose names begin with `prefix`; machines that came from them go on.
    /// Gives the names.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        for template in self.list()? {
            if template.key.starts_with(prefix) {
                let path = self.folder.join(&template.key);
                fs::remove_dir_all(&path).map_err(|source| Error::File {
                    action: "remove",
                    path,
                    source,
                })?;
                removed.push(template.key);
            }
        }
        Ok(removed)
    }

    /// Removes those that were not used for longest, until few enough are left.
    fn thin_out(&self) -> Result<(), Error> {
        for template in self.list()?.into_iter().skip(MOST) {
            self.remove(&template.key)?;
        }
        Ok(())
    }
}

impl Unfinished {
    /// Its files, for the machine to write.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(crate) fn files(&self) -> io::Result<SnapshotFiles> {
        Ok(SnapshotFiles { state: self.state.try_clone()?, memory: self.memory.try_clone()? })
    }

    /// Makes it known, with all that was written in it on the disk.
    ///
    /// # Errors
    /// When that fails; it is then gone.
    pub(crate) fn publish(self) -> io::Result<()> {
        let Templates { folder } = &self.templates;
        let new = folder.join(format!("{}.new", self.key));
        let published = self
            .memory
            .sync_all()
            .and_then(|()| self.state.sync_all())
            .and_then(|()| File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, folder.join(&self.key)));
        if published.is_err() {
            self.discard();
            return published;
        }
        // Too many templates are no reason to lose this one.
        let _ = self.templates.thin_out();
        File::open(folder)?.sync_all()
    }

    /// Takes it away.
    pub(crate) fn discard(&self) {
        let _ = fs::remove_dir_all(self.templates.folder.join(format!("{}.new", self.key)));
    }
}

impl Recipe<'_> {
    /// The name of the template: a hash of this program, kernel and agent (by their inodes, sizes and
    /// times, since reading them would take longer than a start), of the processor and the host's
    /// kernel, and of the shape.
    ///
    /// # Errors
    /// When one of the files is gone.
    pub(crate) fn key(&self) -> Result<String, Error> {
        let mut text = format!("{}\n{}\n", env!("CARGO_PKG_VERSION"), host::processor());
        for path in [Path::new("/proc/self/exe"), self.kernel, self.agent] {
            let metadata = fs::metadata(path).map_err(|source| Error::File {
                action: "look at",
                path: path.to_owned(),
                source,
            })?;
            text.push_str(&format!(
                "{} {} {} {}.{}\n",
                metadata.dev(),
                metadata.ino(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec()
            ));
        }
        text.push_str(&format!("{} {}\n", self.shape.memory_mib, self.shape.vcpus));
        Ok(Digest::of(text.as_bytes()).hex()[..16].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn templates() -> (tempfile::TempDir, Templates) {
        let folder = tempfile::tempdir().unwrap();
        let templates = Templates::new(folder.path().join("templates"));
        (folder, templates)
    }

    #[test]
    fn a_template_is_found_once_it_is_published() {
        let (_folder, templates) = templates();
        assert!(templates.find("k").is_none());
        let unfinished = templates.begin("k").unwrap().unwrap();
        unfinished.files().unwrap().memory.write_all(b"memory").unwrap();
        assert!(templates.find("k").is_none());
        assert!(templates.begin("k").unwrap().is_none(), "somebody is at it");
        assert!(templates.begin("other").unwrap().is_some());
        unfinished.publish().unwrap();
        assert_eq!(templates.find("k").unwrap().files.memory.metadata().unwrap().len(), 6);
        assert_eq!(templates.list().unwrap().len(), 1);
    }

    #[test]
    fn what_is_discarded_set_aside_or_left_by_the_killed_is_not_there() {
        let (_folder, templates) = templates();
        drop(templates.begin("killed").unwrap());
        templates.begin("killed").unwrap().unwrap().publish().unwrap();
        templates.set_aside("killed");
        assert!(templates.find("killed").is_none());
        templates.begin("lost").unwrap().unwrap().discard();
        assert!(templates.list().unwrap().is_empty());
    }

    #[test]
    fn the_oldest_go() {
        let (_folder, templates) = templates();
        for number in 0..MOST + 3 {
            let key = format!("k{number:02}");
            templates.begin(&key).unwrap().unwrap().publish().unwrap();
        }
        assert_eq!(templates.list().unwrap().len(), MOST);
        assert_eq!(templates.remove("k1").unwrap().len(), 9);
        assert_eq!(templates.remove("").unwrap().len(), MOST - 9);
    }

    #[test]
    fn a_key_depends_on_the_shape_and_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, agent) = (folder.path().join("kernel"), folder.path().join("agent"));
        let key = |memory_mib, vcpus| {
            let shape = VmConfig { memory_mib, vcpus };
            Recipe { kernel: &kernel, agent: &agent, shape }.key()
        };
        assert!(key(512, 1).is_err());
        fs::write(&kernel, "k").unwrap();
        fs::write(&agent, "a").unwrap();
        let first = key(512, 1).unwrap();
        assert_eq!(key(512, 1).unwrap(), first);
        assert_ne!(key(512, 2).unwrap(), first);
        assert_ne!(key(256, 1).unwrap(), first);
        fs::write(&agent, "another").unwrap();
        assert_ne!(key(512, 1).unwrap(), first);
    }
}
