//! A disk that is soon full.

use std::path::Path;
use std::process::Command;

/// A file system of a few MiB, unmounted in the end. Needs root.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one.
    pub fn new(mib: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "small"]).arg(folder.path());
        assert!(mount.status().expect("there is mount(8)").success(), "this test needs root");
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.folder.path()).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}
