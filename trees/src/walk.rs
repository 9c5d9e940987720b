//! Goes through a folder and all below it, in the order of names, without ever following a link.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// The longest path that a file system takes, in bytes; what lies deeper cannot be named.
const MAX_PATH_BYTES: usize = 4095;

/// A walk that is on its way.
#[derive(Debug)]
pub struct Walk<'a> {
    root: BorrowedFd<'a>,
    levels: Vec<Level>,
}

/// A folder of which names are left.
#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    names: std::vec::IntoIter<Vec<u8>>,
    /// Open while it is the last one: a deep tree has more folders than a process descriptors.
    folder: Option<OwnedFd>,
}

/// A name in a folder.
#[derive(Debug)]
pub struct Place<'a> {
    /// The folder.
    pub folder: BorrowedFd<'a>,
    /// The name in it.
    pub name: Vec<u8>,
    /// Its path from the root of the walk.
    pub path: Vec<u8>,
}

impl<'a> Walk<'a> {
    /// Begins with what lies in `root`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(root: BorrowedFd<'a>) -> Result<Self, Errno> {
        let mut walk = Self { root, levels: Vec::new() };
        walk.enter(&[])?;
        Ok(walk)
    }

    /// The next name. What vanishes meanwhile is left out.
    pub fn next_place(&mut self) -> Option<Place<'_>> {
        let root = self.root;
        loop {
            let level = self.levels.last_mut()?;
            if level.folder.is_none() {
                level.folder = open_below(root, &level.path).ok();
            }
            let name = match level.folder {
                Some(_) => level.names.next(),
                None => None,
            };
            if let Some(name) = name {
                let level = self.levels.last().expect("it was there a moment ago");
                let folder = level.folder.as_ref().expect("it was opened").as_fd();
                let path = join(&level.path, &name);
                return Some(Place { folder, name, path });
            }
            self.levels.pop();
        }
    }

    /// Goes on with what lies in the folder at `path`, the one that was met last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn enter(&mut self, path: &[u8]) -> Result<(), Errno> {
        let folder = open_below(self.root, path)?;
        let names = names(&folder)?.into_iter();
        if let Some(above) = self.levels.last_mut() {
            above.folder = None;
        }
        self.levels.push(Level { path: path.to_vec(), names, folder: Some(folder) });
        Ok(())
    }
}

/// Opens the folder at `path` below another, which it is for an empty path. No link leads there.
///
/// # Errors
/// When there is none, or a link is on the way.
pub fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.len() > MAX_PATH_BYTES {
        return Err(Errno::NAMETOOLONG);
    }
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// The names in a folder, in the order of their bytes.
fn names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A path and a name below it.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    fn paths(root: &std::path::Path) -> Vec<String> {
        let root = File::open(root).unwrap();
        let mut walk = Walk::new(root.as_fd()).unwrap();
        let mut paths = Vec::new();
        while let Some(place) = walk.next_place() {
            let path = place.path;
            paths.push(String::from_utf8(path.clone()).unwrap());
            let _ = walk.enter(&path);
        }
        paths
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("b/c/d")).unwrap();
        for file in ["b/z", "b.", "a", "b/c/x"] {
            fs::write(home.path().join(file), "").unwrap();
        }
        symlink("/", home.path().join("b/root")).unwrap();
        assert_eq!(paths(home.path()), ["a", "b", "b/c", "b/c/d", "b/c/x", "b/root", "b/z", "b."]);
    }

    #[test]
    fn a_deep_tree_takes_few_descriptors() {
        let home = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", 1500).collect();
        fs::create_dir_all(home.path().join(&deep)).unwrap();
        assert_eq!(paths(home.path()).len(), 1500);
    }

    #[test]
    fn no_link_leads_anywhere() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("real")).unwrap();
        symlink("real", home.path().join("link")).unwrap();
        symlink("/etc", home.path().join("out")).unwrap();
        let root = File::open(home.path()).unwrap();
        for (path, opens) in [
            ("", true),
            ("real", true),
            ("link", false),
            ("out", false),
            ("..", false),
            ("/", false),
        ] {
            assert_eq!(open_below(root.as_fd(), path.as_bytes()).is_ok(), opens, "{path}");
        }
    }
}
