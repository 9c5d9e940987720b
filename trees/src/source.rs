//! What is copied from a path: Docker's rules for links, slashes and the content of folders.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use protocol::{FileFailure, Links, SourceName};

use crate::place::{follow, looking_at, means_content, name_of, open_folder, says_folder};
use crate::step;

/// Something that can be sent.
#[derive(Debug)]
pub struct Source {
    /// What it goes by.
    pub name: SourceName,
    pub(crate) path: PathBuf,
    pub(crate) top: Top,
}

/// What it is, open.
#[derive(Debug)]
pub(crate) enum Top {
    Folder(OwnedFd),
    /// Something else of this name.
    Other {
        parent: OwnedFd,
        name: Vec<u8>,
    },
}

impl Source {
    /// Finds what lies at `path`.
    ///
    /// # Errors
    /// When nothing lies there, or no folder where the path says that there is one.
    pub fn find(path: &Path, links: Links) -> Result<Self, FileFailure> {
        const MAX_LINKS: usize = 40;
        let mut at = path.to_owned();
        if means_content(path) || says_folder(path) {
            return Self::folder(path, &at);
        }
        for _ in 0..MAX_LINKS {
            let bytes = || at.as_os_str().as_bytes().to_vec();
            let kind = match fs::symlink_metadata(&at) {
                Ok(metadata) => metadata.file_type(),
                Err(error) if is_missing(&error) => {
                    return Err(FileFailure::NotFound { path: bytes() });
                }
                Err(error) => return Err(step(looking_at(&at), error)),
            };
            if kind.is_dir() {
                return Self::folder(path, &at);
            }
            if !kind.is_symlink() || links == Links::Kept {
                return Self::other(path, &at);
            }
            at = follow(&at)?;
            if means_content(&at) || says_folder(&at) {
                return Self::folder(path, &at);
            }
        }
        Err(step(looking_at(path), rustix::io::Errno::LOOP))
    }

    /// Where it was looked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn folder(path: &Path, at: &Path) -> Result<Self, FileFailure> {
        let name = SourceName { name: name_of(path), is_folder: true };
        Ok(Self { name, path: path.to_owned(), top: Top::Folder(open_folder(at)?) })
    }

    fn other(path: &Path, at: &Path) -> Result<Self, FileFailure> {
        let missing = || FileFailure::NotFound { path: at.as_os_str().as_bytes().to_vec() };
        let name = at.file_name().ok_or_else(missing)?.as_bytes().to_vec();
        let parent = at.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = open_folder(parent.unwrap_or(Path::new(".")))?;
        let top = Top::Other { parent, name };
        let name = SourceName { name: name_of(path), is_folder: false };
        Ok(Self { name, path: path.to_owned(), top })
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
