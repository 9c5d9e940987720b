//! Writable disks: one blank ext4 file system, formatted once, and an empty file per container for
//! what it writes over that.
//!
//! The blank has no journal. A container and its overlay end together, so after a crash there is
//! nothing to recover, and a journal would only cost: a longer first mount, and every metadata
//! block written twice. Once containers outlive their machine that changes, and with it
//! [`BLANK_VERSION`]; docs/decisions/scratch-disk.md has the whole of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::error::Error;

/// Rises with every change of how the blank is formatted.
const BLANK_VERSION: u32 = 2;
/// The size of the blank and of every scratch disk: 10 GiB, nearly all of it holes.
pub(crate) const SCRATCH_BYTES: u64 = 10 << 30;

/// What a container's scratch disk is made of.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The shared blank, open for reading.
    pub(crate) blank: File,
    /// This container's own overlay, empty and without a name.
    pub(crate) overlay: File,
}

impl Scratch {
    /// Opens the blank in `folder`, formatting it first where it is not there yet, and makes an
    /// overlay.
    pub(crate) fn create(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(file_error("create", folder))?;
        Ok(Self { blank: open_blank(folder)?, overlay: unnamed_file(folder)? })
    }
}

fn open_blank(folder: &Path) -> Result<File, Error> {
    let path = folder.join(format!("blank-{BLANK_VERSION}.img"));
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format_blank(folder, &path)?;
            File::open(&path).map_err(file_error("open", &path))
        }
        opened => opened.map_err(file_error("open", &path)),
    }
}

/// Formats under a temporary name and a lock, so that a blank is whole or not there.
fn format_blank(folder: &Path, path: &Path) -> Result<(), Error> {
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
    make_ext4(&temporary)?;
    file.sync_all().map_err(file_error("write", &temporary))?;
    fs::rename(&temporary, path).map_err(file_error("create", path))
}

/// `lazy_itable_init` leaves the inode tables as holes, which the agent's `noinit_itable` keeps
/// them; nothing is reserved for root, who is the only user of the disk. The two folders that an
/// overlay needs are there already: each container would have to write them otherwise.
fn make_ext4(path: &Path) -> Result<(), Error> {
    let content = tempfile::tempdir().map_err(Error::NoFormatter)?;
    for name in ["upper", "work"] {
        let folder = content.path().join(name);
        fs::create_dir(&folder).map_err(file_error("create", &folder))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&folder, mode).map_err(file_error("write", &folder))?;
    }
    let arguments = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        "-m",
        "0",
        "-O",
        "^has_journal,^resize_inode",
        "-E",
        "lazy_itable_init=1,nodiscard,root_owner=0:0",
    ];
    let path_variable = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("mke2fs")
        .args(arguments)
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
