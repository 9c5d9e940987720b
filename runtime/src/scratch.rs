//! Writable disks: a blank ext4 file system, formatted once, and a file per container for what it
//! writes over that.
//!
//! There are two blanks of each size. A container that is removed when it ends has a file without a name over one
//! without a journal: both are gone after a crash, and there is nothing to recover. The disk of one
//! that is kept lies in its folder, over a blank with a journal, so that a crash leaves a file system
//! that the next start mounts. docs/decisions/scratch-disk.md has the whole of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use vmm::Layers;

use crate::containers::{OVERLAY, Record};
use crate::error::Error;
use crate::limits::ScratchSize;

/// What a container's disk lies over where that is not the host's, in its folder.
pub(crate) const OWN_BLANK: &str = "blank.img";
/// Rises with every change of how a blank is formatted. Old blanks stay: disks lie over them.
const BLANK_VERSION: u32 = 2;
/// The size of a journal, in MiB: the smallest that holds a busy disk's metadata.
const JOURNAL_MIB: u32 = 16;

/// What a container's scratch disk is made of.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// What it begins as, shared.
    pub(crate) blank: Blank,
    /// This container's own overlay.
    pub(crate) overlay: File,
    /// Where that lies, if it is to outlive its machine.
    pub(crate) path: Option<PathBuf>,
}

/// A blank, open for reading.
#[derive(Debug)]
pub(crate) struct Blank {
    /// The file.
    pub(crate) file: File,
    /// Of which kind it is.
    pub(crate) journal: Journal,
    /// How large it is.
    pub(crate) size: ScratchSize,
}

/// What a container's disk lies over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ground {
    /// The host's blank of its size, with a journal if it is kept.
    #[default]
    Usual,
    /// The host's blank of this name, whichever way it is kept: it goes on from one that was kept otherwise.
    Named(String),
    /// A file in its folder: it goes on from a snapshot that came from another host.
    Own,
}

impl Ground {
    /// That of a container which runs, and whose folder is `home`: what it lies over, however its copies are
    /// kept.
    pub(crate) fn as_copied(record: &Record, home: &Path) -> Self {
        match &record.ground {
            Self::Usual => Self::Named(blank_name(journal_of(home), record.scratch)),
            other => other.clone(),
        }
    }
}

/// Whether what the disk of a container lies over that runs, and whose folder is `home`, has a journal.
fn journal_of(home: &Path) -> Journal {
    if home.join(OVERLAY).exists() { Journal::With } else { Journal::Without }
}

/// Whether a blank has a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// For containers that are kept.
    With,
    /// For those that are removed when they end.
    Without,
}

impl Scratch {
    /// A disk that is gone when the last process closes it. Opens the blank in `folder`, formatting
    /// it first where it is not there yet.
    pub(crate) fn fleeting(folder: &Path, size: ScratchSize) -> Result<Self, Error> {
        Self::unnamed(Blank::open(folder, Journal::Without, size)?, folder)
    }

    /// The disk of the container whose folder is `home`, as it is, or new. It is gone when the last process
    /// closes it where the container is removed at its end, unless files were put into it before.
    pub(crate) fn of(record: &Record, home: &Path, folder: &Path) -> Result<Self, Error> {
        if !record.keeping.auto_remove || home.join(OVERLAY).exists() {
            return Self::lasting(record, home, folder);
        }
        Self::unnamed(Blank::of(record, home, folder, Journal::Without)?, folder)
    }

    fn unnamed(blank: Blank, folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(file_error("create", folder))?;
        Ok(Self { blank, overlay: unnamed_file(folder)?, path: None })
    }

    /// The disk of the container whose folder is `home`, kept there.
    pub(crate) fn lasting(record: &Record, home: &Path, folder: &Path) -> Result<Self, Error> {
        Self::over(Blank::of(record, home, folder, Journal::With)?, &home.join(OVERLAY))
    }

    fn over(blank: Blank, path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let overlay = options.open(path).map_err(file_error("open", path))?;
        Ok(Self { blank, overlay, path: Some(path.to_owned()) })
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_new(&self) -> bool {
        self.overlay.metadata().is_ok_and(|overlay| overlay.len() == 0)
    }

    /// Makes this disk, which is new, what that of a template was; it stays new where that fails. One that
    /// is kept takes its place at once, and as a whole: a crash of the host leaves no half of a file system.
    pub(crate) fn resemble(&mut self, template: &Layers) -> io::Result<()> {
        let Some(path) = &self.path else {
            let copied = template.copy_to(&self.overlay).map(drop);
            return copied.or_else(|error| self.overlay.set_len(0).and(Err(error)));
        };
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let overlay = options.open(&new)?;
        template.copy_to(&overlay)?;
        overlay.sync_data()?;
        fs::rename(&new, path)?;
        self.overlay = overlay;
        Ok(())
    }
}

impl Blank {
    /// What the disk of a container lies over that runs, and whose folder is `home`.
    pub(crate) fn beneath(record: &Record, home: &Path, folder: &Path) -> Result<Self, Error> {
        Self::of(record, home, folder, journal_of(home))
    }

    /// What the container's disk lies over whose folder is `home`, and which is kept or not; `folder` has
    /// those of the host.
    fn of(record: &Record, home: &Path, folder: &Path, journal: Journal) -> Result<Self, Error> {
        let path = match &record.ground {
            Ground::Usual => return Self::open(folder, journal, record.scratch),
            Ground::Named(name) => folder.join(name),
            Ground::Own => home.join(OWN_BLANK),
        };
        let file = File::open(&path).map_err(file_error("open", &path))?;
        Ok(Self { file, journal, size: record.scratch })
    }

    /// The one in `folder`, formatted first where it is not there yet.
    pub(crate) fn open(folder: &Path, journal: Journal, size: ScratchSize) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(file_error("create", folder))?;
        let path = folder.join(blank_name(journal, size));
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format_blank(folder, &path, journal, size)?;
                File::open(&path)
            }
            opened => opened,
        };
        let file = file.map_err(file_error("open", &path))?;
        Ok(Self { file, journal, size })
    }
}

/// A blank of the usual size has the name that it had when there was no other.
fn blank_name(journal: Journal, size: ScratchSize) -> String {
    let journal = match journal {
        Journal::With => "-journal",
        Journal::Without => "",
    };
    let size = match size {
        ScratchSize::DEFAULT => String::new(),
        size => format!("-{}m", size.mib()),
    };
    format!("blank-{BLANK_VERSION}{journal}{size}.img")
}

/// Formats under a temporary name and a lock, so that a blank is whole or not there.
fn format_blank(
    folder: &Path,
    path: &Path,
    journal: Journal,
    size: ScratchSize,
) -> Result<(), Error> {
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(file_error("create", &lock_path))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| file_error("lock", &lock_path)(error.into()))?;
    if path.exists() {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    let file = File::create(&temporary).map_err(file_error("create", &temporary))?;
    file.set_len(size.bytes()).map_err(file_error("write", &temporary))?;
    make_ext4(&temporary, journal)?;
    file.sync_all().map_err(file_error("write", &temporary))?;
    fs::rename(&temporary, path).map_err(file_error("create", path))
}

/// `lazy_itable_init` leaves the inode tables as holes, which the agent's `noinit_itable` keeps
/// them; nothing is reserved for root, who is the only user of the disk. The two folders that an
/// overlay needs are there already: each container would have to write them otherwise.
fn make_ext4(path: &Path, journal: Journal) -> Result<(), Error> {
    let content = tempfile::tempdir().map_err(Error::NoFormatter)?;
    for name in ["upper", "work"] {
        let folder = content.path().join(name);
        fs::create_dir(&folder).map_err(file_error("create", &folder))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&folder, mode).map_err(file_error("write", &folder))?;
    }
    let journal_size = format!("size={JOURNAL_MIB}");
    let (features, extended, journal) = match journal {
        Journal::With => {
            ("^resize_inode", "lazy_journal_init=1,", Some(["-J", journal_size.as_str()]))
        }
        Journal::Without => ("^has_journal,^resize_inode", "", None),
    };
    let extended = format!("lazy_itable_init=1,{extended}nodiscard,root_owner=0:0");
    let arguments = [
        "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-O", features, "-E",
        &extended,
    ];
    let path_variable = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("mke2fs")
        .args(arguments)
        .args(journal.into_iter().flatten())
        .arg("-d")
        .arg(content.path())
        .arg(path)
        .env("PATH", format!("{path_variable}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .output()
        .map_err(Error::NoFormatter)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::Format { message })
}

/// A file that is gone when the last process closes it. Not every file system has `O_TMPFILE`;
/// elsewhere the name is taken away at once.
fn unnamed_file(folder: &Path) -> Result<File, Error> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => return Ok(file.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(error) => return Err(file_error("create a file in", folder)(error.into())),
    }
    let path = folder.join(format!("overlay-{}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(file_error("create", &path))?;
    fs::remove_file(&path).map_err(file_error("remove", &path))?;
    Ok(file)
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path: PathBuf = path.to_owned();
    move |source| Error::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn blanks_have_names_by_what_they_are() {
        let small: ScratchSize = "1g".parse().unwrap();
        for (journal, size, name) in [
            (Journal::With, ScratchSize::DEFAULT, "blank-2-journal.img"),
            (Journal::Without, ScratchSize::DEFAULT, "blank-2.img"),
            (Journal::With, small, "blank-2-journal-1024m.img"),
            (Journal::Without, small, "blank-2-1024m.img"),
        ] {
            assert_eq!(blank_name(journal, size), name);
        }
    }

    fn lasting(folder: &Path, path: &Path, size: ScratchSize) -> Scratch {
        Scratch::over(Blank::open(folder, Journal::With, size).unwrap(), path).unwrap()
    }

    #[test]
    fn a_copys_disk_lies_over_what_the_originals_did_however_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (home, blanks) = (folder.path().join("home"), folder.path().join("scratch"));
        fs::create_dir(&home).unwrap();
        let size = "64m".parse().unwrap();
        let mut record = Record { scratch: size, ..crate::containers::sample("a", "web") };
        record.keeping.auto_remove = true;
        let fleeting = Scratch::of(&record, &home, &blanks).unwrap();
        assert!(fleeting.path.is_none() && fleeting.blank.journal == Journal::Without);
        let ground = Ground::as_copied(&record, &home);
        assert_eq!(ground, Ground::Named("blank-2-64m.img".to_owned()));
        // A copy that is kept lies over the same file.
        let mut copy = Record { ground, ..record.clone() };
        copy.keeping.auto_remove = false;
        let kept = Scratch::of(&copy, &home, &blanks).unwrap();
        let inode = |file: &File| file.metadata().unwrap().ino();
        assert!(kept.path.is_some());
        assert_eq!(inode(&kept.blank.file), inode(&fleeting.blank.file));
        assert_eq!(Ground::as_copied(&copy, &home), copy.ground);
        let usual = Ground::as_copied(&record, &home);
        assert_eq!(usual, Ground::Named("blank-2-journal-64m.img".to_owned()));
        // One from elsewhere has its own.
        copy.ground = Ground::Own;
        assert!(Scratch::of(&copy, &home, &blanks).is_err());
        fs::write(home.join(OWN_BLANK), "own").unwrap();
        let own = Scratch::of(&copy, &home, &blanks).unwrap();
        assert_eq!(own.blank.file.metadata().unwrap().len(), 3);
        fs::remove_file(home.join(OVERLAY)).unwrap();
        copy.keeping.auto_remove = true;
        let nowhere = folder.path().join("nowhere");
        assert!(Scratch::of(&copy, &home, &nowhere).unwrap().path.is_none());
    }

    #[test]
    fn disks_of_every_size_can_be_formatted() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["64m", "1t"] {
            let size: ScratchSize = text.parse().unwrap();
            let path = folder.path().join(text);
            for scratch in [
                Scratch::fleeting(folder.path(), size).unwrap(),
                lasting(folder.path(), &path, size),
            ] {
                assert_eq!(scratch.blank.file.metadata().unwrap().len(), size.bytes());
            }
        }
        assert!(!folder.path().join("blank-2-64m.tmp").exists());
    }

    #[test]
    fn a_new_disk_becomes_what_another_was_and_stays_as_sparse() {
        let folder = tempfile::tempdir().unwrap();
        let new = || Scratch::fleeting(folder.path(), "64m".parse().unwrap()).unwrap();
        let (saved, mut scratch) = (new(), new());
        assert!(scratch.is_new());
        for (at, byte) in [(0, 1), (5 << 20, 2), ((40 << 20) - 1, 3)] {
            saved.overlay.write_all_at(&[byte], at).unwrap();
        }
        saved.overlay.set_len(64 << 20).unwrap();
        scratch.resemble(&Layers::whole(saved.overlay).unwrap()).unwrap();
        assert!(!scratch.is_new());
        let read = |at| {
            let mut byte = [9];
            scratch.overlay.read_exact_at(&mut byte, at).unwrap();
            byte[0]
        };
        assert_eq!([0, 5 << 20, (40 << 20) - 1, (64 << 20) - 1].map(read), [1, 2, 3, 0]);
        let taken = scratch.overlay.metadata().unwrap();
        assert!(taken.len() == 64 << 20 && taken.blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_disk_that_cannot_be_copied_stays_new() {
        let folder = tempfile::tempdir().unwrap();
        let (size, path) = ("64m".parse().unwrap(), folder.path().join("overlay.img"));
        let lasting = || lasting(folder.path(), &path, size);
        let fleeting = Scratch::fleeting(folder.path(), size).unwrap();
        for mut scratch in [lasting(), fleeting] {
            let file = File::options().write(true).open(folder.path().join("blank-2-64m.img"));
            let unread = Layers::whole(file.unwrap()).unwrap();
            assert!(scratch.resemble(&unread).is_err(), "it cannot be read");
            assert!(scratch.is_new());
        }
        let mut kept = lasting();
        let blank = Layers::whole(kept.blank.file.try_clone().unwrap());
        kept.resemble(&blank.unwrap()).unwrap();
        assert!(!kept.is_new() && !lasting().is_new());
    }
}
