//! Forks: the one place where a process of ours becomes two.
#![allow(unsafe_code, reason = "fork and _exit have no safe form")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, getppid, pidfd_open,
    pidfd_send_signal, set_parent_process_death_signal, waitid,
};

/// The exit code of a child that panicked or that could not be set up.
const BROKEN: u8 = 125;

/// What becomes of a child whose parent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// It is killed.
    DiesWithParent,
    /// It lives on.
    Independent,
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Forks the calling process, which must have one thread only. The child runs `f` and exits with
/// what it gives, or with 125 when it panics; nothing of the caller's stack is run in it again.
///
/// # Errors
/// When the host refuses another process.
pub fn fork(kind: ChildKind, f: impl FnOnce() -> u8) -> io::Result<Child> {
    let parent = getpid();
    // SAFETY: the caller has one thread, as documented, so the child finds no lock held by a
    // thread that it lacks; it never returns from this function.
    let result = unsafe { libc::fork() };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(|| run_child(kind, parent, f)));
            // SAFETY: ends the process without running the parent's exit handlers in it.
            unsafe { libc::_exit(i32::from(code.unwrap_or(BROKEN))) }
        }
        pid => {
            let pid = Pid::from_raw(pid).expect("fork gives the parent a process id");
            // The child is ours to wait for, so its id cannot name another process yet.
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            Ok(Child { pid, pidfd })
        }
    }
}

fn run_child(kind: ChildKind, parent: Pid, f: impl FnOnce() -> u8) -> u8 {
    if kind == ChildKind::DiesWithParent {
        if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
            return BROKEN;
        }
        // It may have died before the signal was asked for.
        if getppid() != Some(parent) {
            return BROKEN;
        }
    }
    f()
}

/// The descriptors that a process was started with beside the three standard ones: its starter's
/// business, and nobody's here.
#[derive(Debug, Default, Clone)]
pub struct Inherited(Vec<i32>);

impl Inherited {
    /// Looks at this process's own, to be called before it has opened any itself. A host without
    /// `/proc` has none to show.
    #[must_use]
    pub fn look() -> Self {
        let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Self::default() };
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut open: Vec<i32> = entries.filter_map(|entry| number(entry.ok()?)).collect();
        // The folder itself was the lowest that was free, and is closed by now.
        open.retain(|number| *number > 2 && is_open(*number));
        Self(open)
    }

    /// Closes them, in a process that outlives its starter.
    pub fn close(self) {
        for number in self.0 {
            // SAFETY: it was open before anything of this program's was, and nothing of this program
            // has learnt of it.
            unsafe { libc::close(number) };
        }
    }
}

/// Has the host's kernel make this process's table of descriptors as large as a machine needs, to be called
/// while the process has one thread. With several it waits each time for a grace period of RCU
/// (fs/file.c, `expand_fdtable`), which takes longer than all else that makes a machine.
pub fn make_room_for_descriptors() {
    /// Tables have powers of two.
    const LAST: i32 = 255;
    if let Ok(any) = eventfd(0, EventfdFlags::CLOEXEC) {
        // A process that may not have so many has to wait.
        let _ = fcntl_dupfd_cloexec(&any, LAST);
    }
}

fn is_open(number: i32) -> bool {
    // SAFETY: F_GETFD takes no pointer and changes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildStatus {
    /// With an exit code.
    Exited(u8),
    /// By a signal.
    Signaled(i32),
}

impl Child {
    /// The child's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    /// When it has been waited for already.
    pub fn wait(&self) -> io::Result<ChildStatus> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(status_of(&status)),
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills the child; one that has ended already is left as it is.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Child {
    /// Readable once the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn status_of(status: &WaitIdStatus) -> ChildStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ChildStatus::Exited(u8::try_from(code & 0xff).unwrap_or(BROKEN)),
        (None, Some(signal)) => ChildStatus::Signaled(signal),
        (None, None) => ChildStatus::Exited(BROKEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_exits_with_its_code() {
        let child = fork(ChildKind::DiesWithParent, || 7).expect("another process");
        assert_eq!(child.wait().expect("it is ours"), ChildStatus::Exited(7));
        assert!(child.wait().is_err());
    }

    #[test]
    fn a_killed_child_ended_by_a_signal() {
        let wait_forever = || loop {
            rustix::event::pause();
        };
        let child = fork(ChildKind::Independent, wait_forever).expect("another process");
        child.kill().expect("it is ours");
        assert_eq!(child.wait().expect("it is ours"), ChildStatus::Signaled(9));
        child.kill().expect("it is left as it is");
    }
}
