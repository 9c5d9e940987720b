//! A process of the container as the agent follows it, from the wish for it to its last byte.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use protocol::{ExitStatus, FileJob, ProcessId, StartError, WindowSize};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    cgroup::Cgroup,
    container,
    exchange::Exchange,
    exec,
    stdio::Streams,
    step::{Doing, StepError},
    sys, tty,
};

/// A process with its number.
pub(crate) struct Process {
    /// What the host calls it.
    pub(crate) id: ProcessId,
    /// How far it is.
    pub(crate) phase: Phase,
    /// Where those who carry its bytes get their streams, when it goes on in a copy of its machine.
    pub(crate) exchange: Arc<Exchange>,
    /// Signals that came before it ran.
    early_signals: Vec<i32>,
}

/// How far a process is.
pub(crate) enum Phase {
    /// Its streams are not all connected yet.
    Waiting { wish: Wish, streams: Streams },
    /// It joins the container.
    Joining(exec::Joining),
    /// It runs, or has ended while output is still on its way.
    Running(Running),
    /// It is between two of these.
    Moving,
}

/// What is to be started.
pub(crate) enum Wish {
    /// The container with its own process.
    Container(Box<container::Prepared>),
    /// One more.
    Exec(Box<exec::Prepared>),
    /// Something about the container's files, which is no process of it.
    Files(Box<FileJob>),
}

/// A process that has become its program.
pub(crate) struct Running {
    /// Its number in the agent's namespace.
    pub(crate) pid: Pid,
    /// The same, as a descriptor that cannot come to mean another process; none when it was gone
    /// before it was known.
    pub(crate) pidfd: Option<OwnedFd>,
    /// The agent's side of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Hangs up when all its output has gone out; none when it has.
    pub(crate) drained: Option<OwnedFd>,
    /// How it ended.
    pub(crate) status: Option<ExitStatus>,
}

impl Process {
    /// A process that is wished for.
    pub(crate) fn new(id: ProcessId, wish: Wish) -> Self {
        let streams = match &wish {
            Wish::Container(prepared) => prepared.streams(),
            Wish::Exec(prepared) => prepared.streams(),
            Wish::Files(_) => Streams::of_files(),
        };
        let exchange = Arc::new(Exchange::new(streams.needed()));
        let phase = Phase::Waiting { wish, streams };
        Self { id, phase, exchange, early_signals: Vec::new() }
    }

    /// Whether it has not begun yet.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// Starts the container's own process, or sends an exec on its way, if all its streams are
    /// there. `container` is the container's own process.
    pub(crate) fn start_if_complete(
        &mut self,
        container: Option<&OwnedFd>,
        cgroup: &Cgroup,
    ) -> Result<(), StartError> {
        if !matches!(&self.phase, Phase::Waiting { streams, .. } if streams.are_complete()) {
            return Ok(());
        }
        let Phase::Waiting { wish, streams } = std::mem::replace(&mut self.phase, Phase::Moving)
        else {
            return Ok(());
        };
        self.phase = match (wish, container) {
            (Wish::Container(prepared), _) => {
                Phase::Running(prepared.start(streams, &self.exchange, cgroup)?)
            }
            (Wish::Exec(prepared), Some(container)) => {
                Phase::Joining(prepared.start(streams, &self.exchange, container, cgroup)?)
            }
            (Wish::Exec(_) | Wish::Files(_), _) => return Err(no_container()),
        };
        Ok(())
    }

    /// The job about files that this is, once its stream is there.
    pub(crate) fn take_files(&mut self) -> Option<(FileJob, OwnedFd)> {
        let Phase::Waiting { wish: Wish::Files(job), streams } = &mut self.phase else {
            return None;
        };
        Some(((**job).clone(), streams.take_files()?))
    }

    /// Hears how far an exec has come; true when it runs now. `status` says how a process ended
    /// that has done so already.
    pub(crate) fn hear(
        &mut self,
        status: impl FnOnce(Pid) -> Option<ExitStatus>,
    ) -> Result<bool, StartError> {
        let Phase::Joining(joining) = &mut self.phase else { return Ok(false) };
        if !joining.hear() {
            return Ok(false);
        }
        let Phase::Joining(joining) = std::mem::replace(&mut self.phase, Phase::Moving) else {
            return Ok(false);
        };
        let exec::Joined { pid, terminal, drained } = joining.finish(&self.exchange)?;
        let status = status(pid);
        // It is a child that nobody has collected, so the number is still its own.
        let pidfd = status.is_none().then(|| pidfd_open(pid, PidfdFlags::empty()).ok()).flatten();
        self.phase = Phase::Running(Running { pid, pidfd, terminal, drained, status });
        Ok(true)
    }

    /// Sends it a signal, or keeps that until it runs.
    pub(crate) fn signal(&mut self, number: i32) -> Result<(), StepError> {
        const MOST_EARLY_SIGNALS: usize = 64;
        match &self.phase {
            Phase::Running(running) => running.signal(number),
            _ if self.early_signals.len() < MOST_EARLY_SIGNALS => {
                self.early_signals.push(number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sends the signals that came before it ran.
    pub(crate) fn send_early_signals(&mut self) -> Result<(), StepError> {
        let signals = std::mem::take(&mut self.early_signals);
        signals.into_iter().try_for_each(|number| self.signal(number))
    }

    /// Gives its terminal a new size; without one there is nothing to do.
    pub(crate) fn resize(&mut self, size: WindowSize) -> Result<(), StepError> {
        let first = match &mut self.phase {
            Phase::Running(Running { terminal: Some(master), .. }) => {
                return tty::resize(master, size);
            }
            Phase::Waiting { wish: Wish::Container(prepared), .. } => prepared.window(),
            Phase::Waiting { wish: Wish::Exec(prepared), .. } => prepared.window(),
            Phase::Joining(joining) => {
                joining.resize(size);
                None
            }
            Phase::Waiting { wish: Wish::Files(_), .. } | Phase::Running(_) | Phase::Moving => None,
        };
        if let Some(first) = first {
            *first = size;
        }
        Ok(())
    }

    /// Its number and how it ended, once it is gone and all it wrote is out.
    pub(crate) fn whole_end(&self) -> Option<(ProcessId, ExitStatus)> {
        match &self.phase {
            Phase::Running(Running { status: Some(status), drained: None, .. }) => {
                Some((self.id, *status))
            }
            _ => None,
        }
    }

    /// What becomes readable when there is news of it: of an exec's way, or of its output's end.
    pub(crate) fn news(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        match &self.phase {
            Phase::Joining(joining) => Some(joining.wake()),
            Phase::Running(running) => running.drained.as_ref().map(AsFd::as_fd),
            Phase::Waiting { .. } | Phase::Moving => None,
        }
    }
}

impl Running {
    fn signal(&self, number: i32) -> Result<(), StepError> {
        let (Some(pidfd), None) = (&self.pidfd, self.status) else { return Ok(()) };
        match sys::send_signal(pidfd, number) {
            // It has ended; that is said elsewhere.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result.doing(format_args!("send signal {number}")),
        }
    }
}

/// Why an exec cannot be.
pub(crate) fn no_container() -> StartError {
    StartError::Setup { message: "the container is not running".into() }
}
