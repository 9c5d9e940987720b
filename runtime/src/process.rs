//! Child processes that are forks of this one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::process::{Child, ChildKind, ChildStatus, fork};

/// A forked child; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

/// A forked child that lives on when this process ends.
#[derive(Debug)]
pub(crate) struct Independent {
    child: Child,
}

impl Process {
    /// Forks a child that is killed when this process ends, however it ends.
    pub(crate) fn fork_bound(body: impl FnOnce() -> u8) -> io::Result<Self> {
        Ok(Self { child: fork(ChildKind::DiesWithParent, body)? })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Kills it, and leaves it to be reaped.
    pub(crate) fn kill(&self) {
        // Fails only for one that is gone already, which is what is wanted.
        let _ = self.child.kill();
    }

    /// Kills it, for whoever adopts it to reap when this process has ended.
    pub(crate) fn abandon(self) {
        self.kill();
        // Not dropped, since that waits.
        std::mem::forget(self);
    }

    /// Waits for its end, but no longer than `patience`.
    pub(crate) fn wait_at_most(&self, patience: Duration) {
        await_end(&self.child, patience);
    }
}

impl AsFd for Process {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

impl Independent {
    /// Forks a child that goes on without this process.
    pub(crate) fn fork(body: impl FnOnce() -> u8) -> io::Result<Self> {
        Ok(Self { child: fork(ChildKind::Independent, body)? })
    }

    /// Waits for its end; whether it ended well.
    pub(crate) fn ends_well(self) -> bool {
        matches!(self.child.wait(), Ok(ChildStatus::Exited(0)))
    }

    /// Waits for its end, but no longer than `patience`, and reaps it.
    pub(crate) fn reap_within(self, patience: Duration) {
        if await_end(&self.child, patience) {
            // It is ours, and has ended.
            let _ = self.child.wait();
        }
    }
}

/// Whether it has ended within this time.
fn await_end(child: &Child, patience: Duration) -> bool {
    let patience = Timespec::try_from(patience).expect("a patience in seconds");
    let wait = || poll(&mut [PollFd::new(child, PollFlags::IN)], Some(&patience));
    rustix::io::retry_on_intr(wait).is_ok_and(|ready| ready > 0)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Fails only for one that was reaped already.
        let _ = self.child.wait();
    }
}
