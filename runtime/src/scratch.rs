//! Writable disks: a blank ext4 file system, formatted once, and a file per container for what it
//! writes over that.
//!
//! There are two blanks. A container that is removed when it ends has a file without a name over one
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

use crate::error::Error;

/// Rises with every change of how a blank is formatted. Old blanks stay: disks lie over them.
const BLANK_VERSION: u32 = 2;
/// The size of a journal, in MiB: the smallest that holds a busy disk's metadata.
const JOURNAL_MIB: u32 = 16;
/// The size of the blank and of every scratch disk: 10 GiB, nearly all of it holes.
pub(crate) const SCRATCH_BYTES: u64 = 10 << 30;

/// What a container's scratch disk is made of.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The shared blank, open for reading.
    pub(crate) blank: File,
    /// This container's own overlay.
    pub(crate) overlay: File,
}

/// Whether a blank has a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Journal {
    With,
    Without,
}

impl Scratch {
    /// A disk that is gone when the last process closes it. Opens the blank in `folder`, formatting
    /// it first where it is not there yet.
    pub(crate) fn fleeting(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(file_error("create", folder))?;
        let blank = open_blank(folder, Journal::Without)?;
        Ok(Self { blank, overlay: unnamed_file(folder)? })
    }

    /// The disk of a container that is kept, whose overlay is the file at `path`.
    pub(crate) fn lasting(folder: &Path, path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(file_error("create", folder))?;
        let blank = open_blank(folder, Journal::With)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let overlay = options.open(path).map_err(file_error("open", path))?;
        Ok(Self { blank, overlay })
    }
}

fn open_blank(folder: &Path, journal: Journal) -> Result<File, Error> {
    let suffix = match journal {
        Journal::With => "-journal",
        Journal::Without => "",
    };
    let path = folder.join(format!("blank-{BLANK_VERSION}{suffix}.img"));
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format_blank(folder, &path, journal)?;
            File::open(&path).map_err(file_error("open", &path))
        }
        opened => opened.map_err(file_error("open", &path)),
    }
}

/// Formats under a temporary name and a lock, so that a blank is whole or not there.
fn format_blank(folder: &Path, path: &Path, journal: Journal) -> Result<(), Error> {
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(file_error("create", &lock_path))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| file_error("lock", &lock_path)(error.into()))?;
    if path.exists() {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    let file = File::create(&temporary).map_err(file_error("create", &temporary))?;
    file.set_len(SCRATCH_BYTES).map_err(file_error("write", &temporary))?;
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
