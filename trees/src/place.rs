//! Where something is put that is copied to a path: Docker's rules for what is there, what is not, and
//! what ends in a slash.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use protocol::{FileFailure, SourceName};

use crate::step;

/// The most links that are followed one after the other, as the kernel has it.
const MAX_LINKS: usize = 40;

/// What lies at the path that something is copied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// Nothing.
    Missing {
        /// Whether the path says that it is a folder.
        says_folder: bool,
    },
}

/// The folder that receives, and the name that the source gets there; empty for the folder's content.
#[derive(Debug)]
pub struct Target {
    /// The folder.
    pub folder: OwnedFd,
    /// The name.
    pub name: Vec<u8>,
}

impl Target {
    /// Finds the place at `path`; no source stands for an archive.
    ///
    /// # Errors
    /// When the source cannot go there.
    pub fn find(path: &Path, source: Option<&SourceName>) -> Result<Self, FileFailure> {
        let (path, destination) = Destination::at(path)?;
        let bytes = || path.as_os_str().as_bytes().to_vec();
        match (source, destination) {
            (None, Destination::Folder) => {
                Ok(Self { folder: open_folder(&path)?, name: Vec::new() })
            }
            (None, _) => Err(FileFailure::MustBeFolder { path: bytes() }),
            (Some(source), destination) if destination.takes(source)? => {
                Ok(Self { folder: open_folder(&path)?, name: source.name.clone() })
            }
            (Some(_), _) => {
                let name = path.file_name().ok_or(FileFailure::NotFound { path: bytes() })?;
                let parent = path.parent().unwrap_or(Path::new("/"));
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                Ok(Self { folder: open_folder(parent)?, name: name.as_bytes().to_vec() })
            }
        }
    }
}

impl Destination {
    /// What lies at a path, and the path behind its last link.
    fn at(path: &Path) -> Result<(PathBuf, Self), FileFailure> {
        let says_folder = says_folder(path);
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let bytes = || path.as_os_str().as_bytes().to_vec();
            let kind = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata.file_type(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok((path, Self::Missing { says_folder }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Err(FileFailure::NotAFolder { path: bytes() });
                }
                Err(error) => return Err(step(looking_at(&path), error)),
            };
            if kind.is_dir() {
                return Ok((path, Self::Folder));
            }
            if kind.is_file() {
                return Ok((path, Self::File));
            }
            if kind.is_char_device() || !kind.is_symlink() {
                return Err(FileFailure::NotOrdinary { path: bytes() });
            }
            path = follow(&path)?;
        }
        Err(step(looking_at(&path), rustix::io::Errno::LOOP))
    }

    /// Whether the source goes into what is there, rather than in its place.
    fn takes(self, source: &SourceName) -> Result<bool, FileFailure> {
        match self {
            Self::Folder => Ok(true),
            Self::File if source.is_folder => Err(FileFailure::FolderToFile),
            Self::Missing { says_folder: true } if !source.is_folder => {
                Err(FileFailure::NoSuchFolder)
            }
            Self::File | Self::Missing { .. } => Ok(false),
        }
    }
}

/// Where a link leads to: as it says, from the folder that it lies in.
pub(crate) fn follow(link: &Path) -> Result<PathBuf, FileFailure> {
    let target = fs::read_link(link).map_err(|error| step(looking_at(link), error))?;
    Ok(link.parent().unwrap_or(Path::new("/")).join(target))
}

/// Whether a path says that it leads to a folder, by its end.
pub(crate) fn says_folder(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || means_content(path)
}

/// Whether a path means what lies in a folder rather than the folder.
pub(crate) fn means_content(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    matches!(last, b"." | b"..") || bytes.iter().all(|byte| *byte == b'/')
}

/// What a source goes by where it is copied to: the last name of its path, or nothing where it is what
/// lies in a folder.
#[must_use]
pub fn name_of(path: &Path) -> Vec<u8> {
    if means_content(path) {
        return Vec::new();
    }
    path.file_name().map(OsStr::as_bytes).unwrap_or_default().to_vec()
}

pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd, FileFailure> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NONBLOCK;
    let mut options = File::options();
    let flags = i32::try_from(flags.bits()).expect("the flags of an open are an integer");
    options.read(true).custom_flags(flags);
    let bytes = || path.as_os_str().as_bytes().to_vec();
    match options.open(path) {
        Ok(folder) => Ok(folder.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(FileFailure::NotFound { path: bytes() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(FileFailure::NotAFolder { path: bytes() })
        }
        Err(error) => Err(step(looking_at(path), error)),
    }
}

pub(crate) fn looking_at(path: &Path) -> String {
    format!("look at {}", crate::shown(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn source(name: &str, is_folder: bool) -> SourceName {
        SourceName { name: name.into(), is_folder }
    }

    #[test]
    fn sources_have_the_names_that_docker_gives_them() {
        for (path, name) in [
            ("a", "a"),
            ("/x/a", "a"),
            ("/x/a/", "a"),
            ("/x/a/.", ""),
            ("/x/..", ""),
            (".", ""),
            ("/", ""),
            ("//", ""),
            ("/x/.a", ".a"),
        ] {
            assert_eq!(name_of(Path::new(path)), name.as_bytes(), "{path}");
        }
    }

    #[test]
    fn dockers_rules_say_what_goes_where() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("folder", at("to-folder")).unwrap();
        symlink("../nowhere/new", at("to-nothing")).unwrap();
        symlink("new", at("to-new")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let (file, folder, content) = (source("f", false), source("d", true), source("", true));
        for (path, source, name) in [
            ("folder", &file, Ok("f")),
            ("folder/", &folder, Ok("d")),
            ("folder", &content, Ok("")),
            ("to-folder", &file, Ok("f")),
            ("file", &file, Ok("file")),
            ("file", &folder, Err("cannot copy directory")),
            ("new", &file, Ok("new")),
            ("to-new", &file, Ok("new")),
            ("new", &folder, Ok("new")),
            ("new/", &folder, Ok("new")),
            ("new", &content, Ok("new")),
            ("new/", &file, Err("no such directory")),
            ("new/.", &file, Err("no such directory")),
            ("file/", &file, Err("not a directory")),
            ("file/x", &file, Err("not a directory")),
            ("nowhere/new", &file, Err("no such file or directory")),
            ("to-nothing", &file, Err("no such file or directory")),
            ("loop", &file, Err("too many levels")),
        ] {
            let found = Target::find(&at(path), Some(source));
            let said = found.map(|target| target.name).map_err(|failure| failure.to_string());
            match name {
                Ok(name) => assert_eq!(said.as_deref(), Ok(name.as_bytes()), "{path}"),
                Err(words) => assert!(
                    said.clone().is_err_and(|said| said.contains(words)),
                    "{path}: {said:?}"
                ),
            }
        }
        let null = Target::find(Path::new("/dev/null"), Some(&file)).unwrap_err();
        assert!(matches!(null, FileFailure::NotOrdinary { .. }));
    }

    #[test]
    fn archives_go_into_folders() {
        let home = tempfile::tempdir().unwrap();
        assert!(Target::find(home.path(), None).unwrap().name.is_empty());
        let failure = Target::find(&home.path().join("new"), None).unwrap_err();
        assert!(matches!(failure, FileFailure::MustBeFolder { .. }));
    }
}
