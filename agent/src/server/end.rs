//! The end of the container: what it has written goes to its disks, and the host is told last.

use std::time::Duration;

use protocol::FromAgent;

use super::{Server, Stage};

impl Server {
    /// Ends the container, if it still runs, and lets go of its disks: tells the host when all that was written is
    /// on them, and when they are unmounted. The host may have gone before, and once is enough.
    pub(crate) fn settle(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        if self.stage == Stage::Settled {
            return;
        }
        if let Ok(cgroup) = &self.cgroup
            && cgroup.kill().is_ok()
            && let Some(own) = self.container()
        {
            let _ = self.reaper.await_end(own.pid, PATIENCE);
        }
        self.stage = Stage::Settled;
        self.processes.clear();
        self.end_helpers(PATIENCE);
        rustix::fs::sync();
        let _ = self.say(&FromAgent::Synced);
        if let Some(disks) = self.disks.take() {
            disks.release();
        }
        let _ = self.say(&FromAgent::Settled);
    }
}
