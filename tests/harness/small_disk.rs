//! A disk that is soon full.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long processes may take to let go of a disk.
const PATIENCE: Duration = Duration::from_secs(10);

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
        // Whoever has done what they were told may still be ending.
        let deadline = Instant::now() + PATIENCE;
        let unmount = || Command::new("umount").arg(self.folder.path()).output();
        while !unmount().is_ok_and(|out| out.status.success()) {
            if std::thread::panicking() {
                return;
            }
            assert!(Instant::now() < deadline, "somebody still uses {:?}", self.folder.path());
        }
    }
}
