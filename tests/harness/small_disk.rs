//! A disk that is soon full.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long processes may take to let go of a disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file system of a few MiB, unmounted in the end. Needs root.
pub struct SmallDisk {
    folder: tempfile::TempDir,
    /// What umount(8) is told.
    how: &'static [&'static str],
}

impl SmallDisk {
    /// Mounts one.
    pub fn new(mib: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "small"]).arg(folder.path());
        assert!(mount.status().expect("there is mount(8)").success(), "this test needs root");
        Self { folder, how: &[] }
    }

    /// Those who use it may leave things mounted on it, which are unmounted with it.
    #[must_use]
    pub fn with_all_on_it(mut self) -> Self {
        self.how = &["-R"];
        self
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
        loop {
            let unmounted = Command::new("umount").args(self.how).arg(self.folder.path()).output();
            let unmounted = unmounted.expect("there is umount(8)");
            if unmounted.status.success() || std::thread::panicking() {
                return;
            }
            let words = String::from_utf8_lossy(&unmounted.stderr);
            assert!(Instant::now() < deadline, "somebody still uses it: {words}");
        }
    }
}
