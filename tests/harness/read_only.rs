//! A folder in which nothing can be changed, not even by root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that is mounted over itself, read-only, and unmounted in the end, whatever a process that is on its way out
/// still has open in it. Needs root.
pub struct ReadOnly {
    folder: PathBuf,
}

impl ReadOnly {
    /// Mounts it.
    pub fn new(folder: &Path) -> Self {
        mount(&["--bind"], &[folder, folder]);
        let mounted = Self { folder: folder.to_owned() };
        mount(&["-o", "remount,bind,ro"], &[folder]);
        mounted
    }
}

fn mount(options: &[&str], folders: &[&Path]) {
    let status = Command::new("mount").args(options).args(folders).status();
    assert!(status.expect("there is mount(8)").success(), "this test needs root");
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(&self.folder).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}
