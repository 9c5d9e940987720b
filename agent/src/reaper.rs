//! Collects the dead: PID 1 is the parent of every process whose own parent is gone.

use std::{os::fd::OwnedFd, time::Duration, time::Instant};

use protocol::ExitStatus;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus, wait},
};

use crate::{
    step::{Doing, StepError},
    sys,
};

/// Waits for children without blocking.
pub(crate) struct Reaper {
    signals: OwnedFd,
}

impl Reaper {
    /// Takes SIGCHLD over from here on.
    pub(crate) fn new() -> Result<Self, StepError> {
        Ok(Self { signals: sys::child_signals().doing("watch for ended processes")? })
    }

    /// A descriptor that is readable while there is something to collect.
    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.signals
    }

    /// Collects every process that has ended, and says how.
    pub(crate) fn collect(&self) -> Vec<(Pid, ExitStatus)> {
        // One pending SIGCHLD may stand for many children, so the signals are not counted.
        let mut signals = [0_u8; 1024];
        while rustix::io::read(&self.signals, &mut signals).is_ok_and(|count| count > 0) {}
        let mut ended = Vec::new();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => ended.extend(exit_status(status).map(|how| (pid, how))),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return ended,
            }
        }
    }

    /// Waits until `awaited` has ended, or `patience` has.
    pub(crate) fn await_end(&self, awaited: Pid, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some((_, status)) = self.collect().into_iter().find(|(pid, _)| *pid == awaited) {
                return Some(status);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let timeout = Timespec::try_from(left).ok()?;
            let _ = poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], Some(&timeout));
        }
    }
}

/// None for a process that is only stopped.
pub(crate) fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let byte = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    let code = status.exit_status().map(|code| ExitStatus::Code(byte(code)));
    code.or_else(|| status.terminating_signal().map(|number| ExitStatus::Signal(byte(number))))
}
