//! Opens and makes paths in the container's root, which is already the calling process's own.
//!
//! Links of the image are followed; the magic ones of `/proc` are not, since they lead to what the
//! agent has open.

use std::path::{Component, Path, PathBuf};

use rustix::{
    fd::OwnedFd,
    fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2, readlinkat},
    io::Errno,
};

const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Opens a folder to be entered.
pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    open(&clean(path), OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens a folder to be entered or built on, made with all its parents when it is missing.
pub(crate) fn open_or_make_folder(path: &Path) -> Result<OwnedFd, Errno> {
    let path = clean(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut folder = match open(&path, flags) {
        Err(Errno::NOENT) => open(Path::new("/"), flags)?,
        result => return result,
    };
    let mut walked = PathBuf::from("/");
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        walked.push(name);
        folder = match open(&walked, flags) {
            Err(Errno::NOENT) => {
                match mkdirat(&folder, name, FOLDER_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                open(&walked, flags)?
            }
            result => result?,
        };
    }
    Ok(folder)
}

/// Opens a file to be mounted over, made empty when it is missing.
pub(crate) fn open_or_make_file(path: &Path) -> Result<OwnedFd, Errno> {
    const LINKS: usize = 40;
    let mut path = clean(path);
    for _ in 0..LINKS {
        match open(&path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        // Missing, or a link to what is missing. O_CREAT makes both, if the folder is there.
        match open(&path, OFlags::CREATE | OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        match readlinkat(CWD, &path, Vec::new()) {
            Ok(target) => {
                let target = Path::new(std::str::from_utf8(target.as_bytes()).unwrap_or("/"));
                path = clean(&folder.join(target));
            }
            Err(_) => drop(open_or_make_folder(&folder)?),
        }
    }
    Err(Errno::LOOP)
}

/// Opens what is there; a path is followed from the root.
pub(crate) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
    openat2(CWD, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::NO_MAGICLINKS)
}

/// The path from the root, without `.`, `..` and doubled slashes, as Docker reads a path.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_the_root() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("app", "/app"),
            ("/app/", "/app"),
            ("/a/./b//c", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("../..", "/"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
