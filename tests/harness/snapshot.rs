//! What lies in a folder, to tell whether something has changed it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::digest;

/// From this on a file is a disk or a machine's memory, mostly empty: its length and time stand for
/// its content.
const LARGE: u64 = 128 << 20;

/// Every path below a folder, with its content if it is a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    entries: BTreeMap<PathBuf, String>,
}

impl Snapshot {
    /// Looks at everything below `folder` but what comes when it is first needed: locks, what is noted
    /// beside templates, and the log of events.
    pub fn of(folder: &Path) -> Self {
        let mut entries = BTreeMap::new();
        walk(folder, folder, &mut entries);
        Self { entries }
    }

    /// The paths, relative to the folder, with what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.entries.iter().map(|(path, content)| (path.as_path(), content.as_str()))
    }

    /// Leaves out the files of this name.
    pub fn forget(&mut self, name: &str) {
        self.entries.retain(|path, _| !path.ends_with(name));
    }

    /// Only what lies below the folders of these names.
    #[must_use]
    pub fn below(mut self, folders: &[&str]) -> Self {
        self.entries.retain(|path, _| folders.iter().any(|folder| path.starts_with(folder)));
        self
    }
}

fn walk(root: &Path, folder: &Path, entries: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        let kind = path.symlink_metadata().expect("it is there");
        if name == Path::new("events") {
            continue;
        }
        if kind.is_dir() {
            entries.insert(name, "folder".to_owned());
            walk(root, &path, entries);
        } else if !name.to_string_lossy().ends_with("lock") {
            let content = if kind.len() >= LARGE {
                format!("{} bytes of {:?}", kind.len(), kind.modified())
            } else if kind.is_file() {
                digest(&fs::read(&path).expect("readable"))
            } else {
                format!("{:?}", kind.file_type())
            };
            entries.insert(name, content);
        }
    }
}
