//! The end of the conversation: that of the container, if it still runs, and what the host is told last.

use std::time::Duration;

use protocol::FromAgent;

use super::{Server, Stage};

impl Server {
    /// Ends the container, if it still runs, and lets go of its disks, with all that was written on
    /// them.
    pub(crate) fn end_container(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        if let Ok(cgroup) = &self.cgroup
            && cgroup.kill().is_ok()
            && let Some(own) = self.container()
        {
            let _ = self.reaper.await_end(own.pid, PATIENCE);
        }
        self.stage = Stage::Over;
        self.processes.clear();
        self.end_helpers(PATIENCE);
        if let Some(disks) = self.disks.take() {
            disks.release();
        }
        rustix::fs::sync();
    }

    /// Tells the host that nothing is left to do. It may have gone before.
    pub(crate) fn say_farewell(&mut self) {
        let _ = self.say(&FromAgent::Settled);
    }
}
