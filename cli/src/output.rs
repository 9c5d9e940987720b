//! A file that a command makes: there as a whole in the end, or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file that is being written. What is not an ordinary file, such as a pipe, is written as it is.
pub(crate) struct NewFile {
    path: PathBuf,
    /// The unfinished file beside it.
    unfinished: Option<PathBuf>,
    file: File,
}

impl NewFile {
    /// Begins a file that replaces the one at `path` when it is kept.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error| failure(path, error);
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = File::options().write(true).open(path).map_err(failed)?;
            return Ok(Self { path: path.to_owned(), unfinished: None, file });
        }
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let unfinished = path.with_file_name(hidden);
        let file = File::create(&unfinished).map_err(failed)?;
        Ok(Self { path: path.to_owned(), unfinished: Some(unfinished), file })
    }

    /// Gives the file its name.
    pub(crate) fn keep(mut self) -> Result<(), Failure> {
        if let Some(unfinished) = &self.unfinished {
            let kept = fs::rename(unfinished, &self.path);
            kept.map_err(|error| failure(&self.path, error))?;
            self.unfinished = None;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // Nobody is left to be told.
            let _ = fs::remove_file(unfinished);
        }
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
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(NewFile::create(&folder.path().join("no/where")).is_err());
        assert!(NewFile::create(Path::new("/")).is_err());
    }
}
