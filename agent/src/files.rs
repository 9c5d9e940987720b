//! Does something about the container's files for the host: sends some, takes some, tells what has
//! changed.
//!
//! A helper process does it, in a mount namespace of its own and outside of the container's cgroup: it
//! works while the container stands still, and where there is no container at all. It sees the
//! container's root with its volumes and none of its other mounts, or the disk that takes what the
//! container writes; it opens no device and follows no link out of either. Whatever it hangs on, nobody
//! waits for it.

mod changes;
mod job;
mod layer;
mod written;

use std::{fs::File, os::fd::OwnedFd};

use protocol::{ContainerSpec, FileJob, Processes, User};
use rustix::process::Pid;

use crate::{
    step::{Doing, StepError},
    sys::{self, Cloned},
};

/// What there is to see of the container's files.
#[derive(Clone)]
pub(crate) struct View {
    volumes: Vec<String>,
    read_only: bool,
    user: User,
}

/// A helper that is at work.
pub(crate) struct Helper {
    /// Its number.
    pub(crate) pid: Pid,
    /// Whether the container goes on when it has ended.
    pub(crate) halts: bool,
    pidfd: OwnedFd,
}

impl View {
    /// What there will be of this container.
    pub(crate) fn of(spec: &ContainerSpec) -> Self {
        Self {
            volumes: spec.volumes.clone(),
            read_only: spec.read_only,
            user: spec.process.user.clone(),
        }
    }
}

/// Whether the container is to stand still for this.
pub(crate) fn halts(job: &FileJob) -> bool {
    matches!(job, FileJob::Layer { processes: Processes::Halted })
}

impl Helper {
    /// Starts one for `job`, whose stream it has from now on. A container that is on its way to standing
    /// still is waited for.
    pub(crate) fn start(
        job: &FileJob,
        stream: OwnedFd,
        view: &View,
        container: Processes,
    ) -> Result<Self, StepError> {
        let cloned = sys::clone_with_own_mounts().doing("make a process")?;
        let Cloned::Parent { pid, pidfd } = cloned else {
            // The streams of others must be theirs alone, or they would never hang up.
            if sys::close_all_but(&stream).is_err() {
                sys::exit_now(1);
            }
            job::carry_out(job, &File::from(stream), view, container);
            sys::exit_now(0);
        };
        Ok(Self { pid, halts: container == Processes::Halted, pidfd })
    }

    /// Ends it.
    pub(crate) fn kill(&self) {
        // One that is gone already is what is wanted.
        let _ = sys::send_signal(&self.pidfd, libc::SIGKILL);
    }
}
