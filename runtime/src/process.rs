//! Child processes that are forks of this one.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::process::{Child, ChildKind, fork};

/// A forked child; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Forks a child that goes on without this process.
    pub(crate) fn fork(body: impl FnOnce() -> u8) -> io::Result<Self> {
        Ok(Self { child: fork(ChildKind::Independent, body)? })
    }

    /// Forks a child that is killed when this process ends, however it ends.
    pub(crate) fn fork_bound(body: impl FnOnce() -> u8) -> io::Result<Self> {
        Ok(Self { child: fork(ChildKind::DiesWithParent, body)? })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Lets it end by itself, but no later than after `patience`.
    pub(crate) fn end_within(self, patience: Duration) {
        self.wait_at_most(patience);
    }

    /// Waits for its end, but no longer than `patience`.
    pub(crate) fn wait_at_most(&self, patience: Duration) {
        let patience = Timespec::try_from(patience).expect("a patience in seconds");
        let wait = || poll(&mut [PollFd::new(&self.child, PollFlags::IN)], Some(&patience));
        // Whatever happens, dropping the process ends it.
        let _ = rustix::io::retry_on_intr(wait);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
