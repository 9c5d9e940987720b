//! The machine's one container: prepared when its spec comes, started when its streams are there.

use std::{fs::File, os::fd::OwnedFd};

use protocol::{ContainerSpec, FrameError, StartError, WindowSize};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Pid,
};

use crate::{
    cgroup::Cgroup,
    clock,
    disks::Disks,
    etc::EtcMounts,
    process::Launch,
    program::Program,
    rootfs::{Access, Furniture},
    stdio::{Stdio, Streams},
    step::{Doing, StepError},
    sys::{self, Cloned},
    tty::{self, Terminal},
    user::{self, Account},
};

/// A container that has everything but its streams.
pub(crate) struct Prepared {
    /// What the host asked for.
    pub(crate) spec: ContainerSpec,
    account: Account,
    program: Program,
    etc: EtcMounts,
}

/// A container whose process runs, or has run.
pub(crate) struct Container {
    /// Its first process, as the agent's namespace numbers it.
    pub(crate) pid: Pid,
    /// Hangs up when all its output has gone out.
    pub(crate) drained: OwnedFd,
    process: OwnedFd,
    terminal: Option<OwnedFd>,
}

impl Prepared {
    /// Does what can be done outside of the container: the clock, its root, its user, its program.
    /// The disks are put where they will be released from, whatever fails afterwards.
    pub(crate) fn new(
        spec: ContainerSpec,
        disks: &mut Option<Disks>,
        cgroup: &Cgroup,
    ) -> Result<Self, StartError> {
        clock::set(spec.wall_clock)?;
        clock::stir(&spec.entropy)?;
        let root = disks.insert(Disks::mount(&spec)?).root();
        let account = user::find(root, &spec.process.user)?;
        let program = Program::new(&spec.process, &account.home)?;
        let etc = EtcMounts::write(&spec)?;
        if let Some(quota_us) = spec.limits.cpu_quota_us {
            cgroup.limit_cpu(quota_us)?;
        }
        Ok(Self { spec, account, program, etc })
    }

    /// Starts the process: on success its `execve` has happened.
    ///
    /// Up to the clone the agent has one thread; those that carry the streams come after it.
    pub(crate) fn start(self, streams: Streams, cgroup: &Cgroup) -> Result<Container, StartError> {
        let Self { spec, account, program, etc } = self;
        let process = &spec.process;
        let terminal =
            process.terminal.map(|size| Terminal::open(size, account.uid)).transpose()?;
        let (stdio, pumps) = Stdio::connect(process, terminal, streams, account.uid)?;
        let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let launch = Launch {
            furniture: Furniture { etc, terminal: stdio.terminal(), shm_bytes: spec.shm_bytes },
            root: if spec.read_only { Access::ReadOnly } else { Access::ReadWrite },
            hostname: &spec.hostname,
            working_dir: &process.working_dir,
            stdio: &stdio,
            limits: &process.limits,
            account: &account,
            capabilities: process.capabilities,
            program: &program,
        };
        let cloned = sys::clone_into_namespaces(cgroup.as_fd()).doing("make a process")?;
        let Cloned::Parent { pid, pidfd } = cloned else { launch.carry_out(child_report.into()) };
        drop(child_report);
        drop(launch);
        // The process's ends of the pipes must be its alone, or they would never hang up.
        let terminal = stdio.into_master();
        let drained = pumps.start()?;
        read_report(report.into())?;
        Ok(Container { pid, drained, process: pidfd, terminal })
    }
}

/// Waits until the new process has become its program, or has said why not.
fn read_report(mut report: File) -> Result<(), StartError> {
    match protocol::read(&mut report) {
        Err(FrameError::Closed) => Ok(()),
        Ok(error) => Err(error),
        Err(error) => Err(StartError::Setup {
            message: format!("the new process failed without a reason: {error}"),
        }),
    }
}

impl Container {
    /// Sends a signal to the first process.
    pub(crate) fn signal(&self, number: i32) -> Result<(), StepError> {
        match sys::send_signal(&self.process, number) {
            // It has ended; that is said elsewhere.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result.doing(format_args!("send signal {number}")),
        }
    }

    /// Gives the terminal a new size; without one there is nothing to do.
    pub(crate) fn resize(&self, size: WindowSize) -> Result<(), StepError> {
        self.terminal.as_ref().map_or(Ok(()), |master| tty::resize(master, size))
    }
}
