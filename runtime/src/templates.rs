//! Templates: machines saved when their agent was ready, from which others of the same shape go on.
//! One serves every image; a machine that boots for want of one is saved on its way. Others have the
//! disks of one image mounted, and serve its containers.
//!
//! A template is a folder named by a hash of all that it depends on, so that one that no longer fits
//! is never found. It is made under another name and a lock, and renamed when it is whole and synced.

mod checking;
mod clearing;
mod description;
mod recipe;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, utimensat};
use rustix::io::{Errno, retry_on_intr};
use vmm::Layers;
use vmm::config::{SnapshotFiles, Start};

pub use self::checking::Checked;
pub use self::clearing::{Listed, Pruned, TemplateError};
pub use self::description::Description;
use self::description::Sums;
pub(crate) use self::recipe::Wanted;

use crate::plan::VmConfig;
use crate::scratch::Scratch;
use crate::working_set::{Known, Unexplored};

const STATE: &str = "state";
const MEMORY: &str = "memory";
/// The writable disk of an image's template, as far as it differs from its blank.
const SCRATCH: &str = "scratch";
/// The kernel as its machine has prepared it for others that boot, of one that serves all images.
const KERNEL: &str = "kernel";
/// The endings of what is no template: one that is being made, its lock, and one that was set aside.
const NEW: &str = ".new";
const LOCK: &str = ".lock";
const BROKEN: &str = ".broken";

/// The home of all templates.
#[derive(Debug)]
pub struct Templates {
    folder: PathBuf,
}

/// A template, open.
#[derive(Debug)]
pub(crate) struct Template {
    folder: PathBuf,
    files: SnapshotFiles,
    /// What its copies are known to touch.
    known: Known,
    /// What the writable disk of each copy begins as; none for a template that knows no disk.
    scratch: Option<File>,
}

impl Template {
    /// Makes the writable disk of a copy, which is new, what that of an image's template was.
    ///
    /// # Errors
    /// When that was written to since, or cannot be copied; the copy's is new then.
    pub(crate) fn fill(&self, scratch: &mut Scratch) -> io::Result<()> {
        let Some(saved) = &self.scratch else { return Ok(()) };
        if saved.metadata()?.modified()? != SystemTime::UNIX_EPOCH {
            let problem = "its writable disk was changed after it was saved";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        scratch.resemble(&Layers::whole(saved.try_clone()?)?)
    }

    /// What a machine needs to go on from it; and where to note what that machine touches, as long as
    /// that is not known.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(crate) fn start(self) -> io::Result<(Start, Option<Unexplored>)> {
        let Self { folder, files, known, .. } = self;
        let (working_set, unexplored) = known.begin(folder, &files)?;
        Ok((Start::Restore { files, working_set }, unexplored))
    }

    /// Puts its memory at another place too, where it stays when the template goes; its state and its memory.
    ///
    /// # Errors
    /// When the file system cannot have a file in two places, or it was damaged or is gone.
    pub(crate) fn share(self, to: &Path) -> io::Result<(File, File)> {
        fs::hard_link(self.folder.join(MEMORY), to)?;
        let SnapshotFiles { state, memory, .. } = self.files;
        // Its name may be another one's by now.
        if !is_same(&fs::metadata(to)?, &memory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((state, memory))
    }

    /// What its copies are known to touch.
    pub(crate) fn known(&mut self) -> Known {
        std::mem::take(&mut self.known)
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
    wanted: Wanted,
    state: File,
    memory: File,
    scratch: Option<File>,
    /// The kernel that its machine boots, of one that serves all images.
    kernel: Option<File>,
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

    /// This template, if it is there.
    pub(crate) fn find(&self, wanted: &Wanted) -> Option<Template> {
        let folder = self.folder.join(&wanted.key);
        let state = File::open(folder.join(STATE)).ok()?;
        let memory = File::open(folder.join(MEMORY)).ok()?;
        let known = Known::of(&folder);
        let scratch = match wanted.image {
            Some(_) => Some(File::open(folder.join(SCRATCH)).ok()?),
            None => None,
        };
        note_use(&folder);
        Some(Template { folder, files: SnapshotFiles::new(state, memory), known, scratch })
    }

    /// The kernel of this template's machine, prepared for others of its shape that boot.
    pub(crate) fn kernel(&self, wanted: &Wanted) -> Option<File> {
        File::open(self.folder.join(&wanted.key).join(KERNEL)).ok()
    }

    /// Begins a template; none if somebody else is at it already, or has just made it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn begin(&self, wanted: &Wanted) -> io::Result<Option<Unfinished>> {
        fs::create_dir_all(&self.folder)?;
        let key = &wanted.key;
        let Some(lock) = try_lock(&self.folder.join(format!("{key}{LOCK}")))? else {
            return Ok(None);
        };
        if self.find(wanted).is_some() {
            return Ok(None);
        }
        // What is there and is no template would be in the way of the new one.
        self.set_aside(key);
        let folder = self.folder.join(format!("{key}{NEW}"));
        // Somebody was killed over it.
        let _ = fs::remove_dir_all(&folder);
        // A memory in which every copy's secrets began is nobody else's.
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let create = |name: &str| {
            File::options().read(true).write(true).create_new(true).open(folder.join(name))
        };
        let (state, memory) = (create(STATE)?, create(MEMORY)?);
        let scratch = wanted.image.map(|_| create(SCRATCH)).transpose()?;
        let kernel = wanted.image.is_none().then(|| File::open(&wanted.kernel).ok()).flatten();
        let (templates, wanted) = (Self { folder: self.folder.clone() }, wanted.clone());
        Ok(Some(Unfinished { templates, wanted, state, memory, scratch, kernel, lock }))
    }

    /// Waits until nobody makes this template any more.
    ///
    /// # Errors
    /// When there is no folder for templates.
    pub(crate) fn await_other(&self, key: &str) -> io::Result<()> {
        let lock = File::create(self.folder.join(format!("{key}{LOCK}")))?;
        Ok(retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))?)
    }

    /// Puts a template where nothing finds it.
    pub(crate) fn set_aside(&self, key: &str) {
        let aside = self.folder.join(format!("{key}{BROKEN}"));
        let _ = fs::remove_dir_all(&aside);
        // What cannot be renamed stays, and is met again.
        let _ = fs::rename(self.folder.join(key), aside);
    }
}

impl Unfinished {
    /// Its machine's shape.
    pub(crate) fn shape(&self) -> VmConfig {
        self.wanted.shape
    }

    /// Its files, for the machine to write.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(crate) fn files(&self) -> io::Result<SnapshotFiles> {
        Ok(SnapshotFiles::new(self.state.try_clone()?, self.memory.try_clone()?))
    }

    /// The overlay of its writable disk, for one of an image.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(crate) fn scratch(&self) -> io::Result<Option<File>> {
        self.scratch.as_ref().map(File::try_clone).transpose()
    }

    /// Makes it known, with all that was written in it on the disk.
    ///
    /// # Errors
    /// When that fails; it is then gone.
    pub(crate) fn publish(self) -> io::Result<()> {
        let folder = &self.templates.folder;
        let published = self.complete(folder);
        if published.is_err() {
            self.discard();
            return published;
        }
        // Too many templates are no reason to lose this one.
        let _ = self.templates.thin_out(&self.wanted.basis);
        File::open(folder)?.sync_all()
    }

    fn complete(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(format!("{}{NEW}", self.wanted.key));
        self.memory.sync_all()?;
        self.state.sync_all()?;
        let memory = vmm::memory_sum(&self.memory)?;
        let mut sums = Sums { memory, scratch: None, kernel: self.prepare_kernel(&new) };
        if let Some(scratch) = &self.scratch {
            // As that of a memory, its date tells whether anybody has written to it later.
            scratch.set_modified(SystemTime::UNIX_EPOCH)?;
            scratch.sync_all()?;
            sums.scratch = Some(vmm::memory_sum(scratch)?);
        }
        Description::new(&self.wanted, sums).write(&new)?;
        File::open(&new)?.sync_all()?;
        fs::rename(&new, folder.join(&self.wanted.key))
    }

    /// Writes the kernel as its machine has left it, for those that will boot; its checksum. Without that they
    /// boot slower, and the template serves all the same.
    fn prepare_kernel(&self, folder: &Path) -> Option<u32> {
        let kernel = self.kernel.as_ref()?;
        let path = folder.join(KERNEL);
        let prepared = || -> io::Result<Option<u32>> {
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            if !vmm::prepare_kernel(kernel, &self.memory, &file)? {
                return Ok(None);
            }
            file.sync_all()?;
            vmm::memory_sum(&file).map(Some)
        };
        let sum = prepared().ok().flatten();
        if sum.is_none() {
            let _ = fs::remove_file(&path);
        }
        sum
    }

    /// Takes it away.
    pub(crate) fn discard(&self) {
        let new = format!("{}{NEW}", self.wanted.key);
        let _ = fs::remove_dir_all(self.templates.folder.join(new));
    }
}

/// Locks this file, which is made if need be; none if somebody else has locked it. Whoever clears up
/// removes locks: one that has no name any more keeps nobody out.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let lock = File::create(path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        if fs::metadata(path).is_ok_and(|named| is_same(&named, &lock)) {
            return Ok(Some(lock));
        }
    }
}

fn is_same(named: &fs::Metadata, file: &File) -> bool {
    let own = file.metadata();
    own.is_ok_and(|own| (own.dev(), own.ino()) == (named.dev(), named.ino()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    pub(crate) fn templates() -> (tempfile::TempDir, Templates) {
        let folder = tempfile::tempdir().unwrap();
        let templates = Templates::new(folder.path().join("templates"));
        (folder, templates)
    }

    pub(crate) fn wanted(key: &str) -> Wanted {
        let shape = VmConfig { memory_mib: 512, vcpus: 1 };
        Wanted {
            key: key.to_owned(),
            basis: "basis".to_owned(),
            shape,
            kernel: "/k".into(),
            image: None,
        }
    }

    pub(super) fn publish(templates: &Templates, key: &str) {
        templates.begin(&wanted(key)).unwrap().unwrap().publish().unwrap();
    }

    #[test]
    fn a_template_is_found_once_it_is_published() {
        let (_folder, templates) = templates();
        assert!(templates.find(&wanted("k")).is_none());
        let unfinished = templates.begin(&wanted("k")).unwrap().unwrap();
        unfinished.files().unwrap().memory.write_all(b"memory").unwrap();
        assert!(templates.find(&wanted("k")).is_none());
        assert!(templates.begin(&wanted("k")).unwrap().is_none(), "somebody is at it");
        assert!(templates.begin(&wanted("other")).unwrap().is_some());
        unfinished.publish().unwrap();
        let mode = fs::metadata(templates.folder.join("k")).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "nobody else looks into it");
        assert_eq!(templates.find(&wanted("k")).unwrap().files.memory.metadata().unwrap().len(), 6);
        assert!(templates.begin(&wanted("k")).unwrap().is_none(), "somebody has made it");
        let listed = templates.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].description.as_ref().unwrap().memory_mib, 512);
    }

    #[test]
    fn what_is_discarded_set_aside_or_left_by_the_killed_is_not_there() {
        let (_folder, templates) = templates();
        drop(templates.begin(&wanted("killed")).unwrap());
        publish(&templates, "killed");
        templates.set_aside("killed");
        assert!(templates.find(&wanted("killed")).is_none());
        templates.begin(&wanted("lost")).unwrap().unwrap().discard();
        assert!(templates.list().unwrap().is_empty());
    }

    #[test]
    fn the_half_of_a_template_is_replaced() {
        let (_folder, templates) = templates();
        publish(&templates, "k");
        fs::remove_file(templates.folder.join("k").join(STATE)).unwrap();
        assert!(templates.find(&wanted("k")).is_none());
        publish(&templates, "k");
        assert!(templates.find(&wanted("k")).is_some());
    }

    #[test]
    fn a_lock_without_a_name_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _old = try_lock(&path).unwrap().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn who_waits_goes_on_when_the_other_is_done() {
        let (_folder, templates) = templates();
        let unfinished = templates.begin(&wanted("k")).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| templates.await_other("k").map(|()| templates.find(&wanted("k"))));
            unfinished.publish().unwrap();
            assert!(waiting.join().unwrap().unwrap().is_some());
        });
    }
}
