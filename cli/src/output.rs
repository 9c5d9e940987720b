//! A file that a command makes: there as a whole in the end, or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;

use crate::failure::Failure;

/// A file that is being written.
pub(crate) struct NewFile {
    path: PathBuf,
    state: State,
    file: File,
}

/// How it becomes what is asked for.
enum State {
    /// It is no ordinary file, such as a pipe, and is written as it is.
    Itself,
    /// It has no name yet: whenever this process is killed, nothing is left of it.
    Unnamed,
    /// Where the file system has no files without a name, it has this one beside the other.
    Beside(PathBuf),
}

impl NewFile {
    /// Begins a file that replaces the one at `path` when it is kept.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error| failure(path, error);
        let made = |state, file| Self { path: path.to_owned(), state, file };
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = File::options().write(true).open(path).map_err(failed)?;
            return Ok(made(State::Itself, file));
        }
        let hidden = beside(path).map_err(failed)?;
        if let Some(file) = unnamed(path) {
            return Ok(made(State::Unnamed, file));
        }
        let file = File::create(&hidden).map_err(failed)?;
        Ok(made(State::Beside(hidden), file))
    }

    /// Gives the file its name.
    pub(crate) fn keep(mut self) -> Result<(), Failure> {
        let kept = match &self.state {
            State::Itself => Ok(()),
            State::Unnamed => name(&self.file, &self.path),
            State::Beside(hidden) => fs::rename(hidden, &self.path),
        };
        kept.map_err(|error| failure(&self.path, error))?;
        self.state = State::Itself;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let State::Beside(hidden) = &self.state {
            // Nobody is left to be told.
            let _ = fs::remove_file(hidden);
        }
    }
}

/// A name in the same folder that is nobody else's.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// A file without a name where `path` will be, if the file system can have one.
fn unnamed(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, mode).map(File::from).ok()
}

/// Gives a file that has none its name, which it may take from another one.
fn name(file: &File, path: &Path) -> io::Result<()> {
    // open(2), O_TMPFILE: by this path it needs no privilege.
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |to: &Path| linkat(CWD, &itself, CWD, to, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(Errno::EXIST) => {
            let hidden = beside(path)?;
            link(&hidden)?;
            fs::rename(&hidden, path).inspect_err(|_| drop(fs::remove_file(&hidden)))
        }
        linked => Ok(linked?),
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn failure(path: &Path, source: io::Error) -> Failure {
    let archive = path.display().to_string();
    images::Error::WriteArchive { archive, source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        fs::write(&path, "old").unwrap();
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"ne").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let fresh = folder.path().join("b.tar");
        let mut file = NewFile::create(&fresh).unwrap();
        file.write_all(b"fresh").unwrap();
        file.keep().unwrap();
        assert_eq!(fs::read(&fresh).unwrap(), b"fresh");
        fs::remove_file(&fresh).unwrap();
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(NewFile::create(&folder.path().join("no/where")).is_err());
        // Until it is kept there is nothing to be left behind.
        let kept = NewFile::create(&folder.path().join("c.tar")).unwrap();
        if matches!(kept.state, State::Unnamed) {
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        assert!(NewFile::create(Path::new("/")).is_err());
    }
}
