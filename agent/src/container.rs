//! The machine's one container: prepared when its spec comes, started when its streams are there.

use std::fs::File;

use protocol::{ContainerSpec, FrameError, StartError, WindowSize};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{
    cgroup::Cgroup,
    clock,
    confinement::Confinement,
    devices::DeviceNodes,
    disks::Disks,
    etc::EtcMounts,
    launch::Launch,
    process::Running,
    program::Program,
    rootfs::Furniture,
    stdio::{Stdio, Streams},
    step::Doing,
    sys::{self, Cloned},
    tty::Terminal,
    user::{self, Account},
    volumes::Volumes,
};

/// A container that has everything but its streams.
pub(crate) struct Prepared {
    spec: ContainerSpec,
    account: Account,
    program: Program,
    etc: EtcMounts,
    volumes: Volumes,
    devices: DeviceNodes,
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
        let account = user::find(root, &spec.process.user, &spec.process.more_groups)?;
        let program = Program::new(&spec.process, &account.home)?;
        let etc = EtcMounts::write(&spec)?;
        let volumes = Volumes::prepare(&spec.volumes)?;
        cgroup.begin(&spec.limits)?;
        let mut devices = DeviceNodes::default();
        if spec.privileged {
            cgroup.open_devices()?;
            devices = DeviceNodes::of_the_machine()?;
        }
        Ok(Self { spec, account, program, etc, volumes, devices })
    }

    /// The streams it waits for.
    pub(crate) fn streams(&self) -> Streams {
        Streams::of(&self.spec.process)
    }

    /// Its terminal's first size, if it has one.
    pub(crate) fn window(&mut self) -> Option<&mut WindowSize> {
        self.spec.process.terminal.as_mut()
    }

    /// Starts the process: on success its `execve` has happened.
    ///
    /// Up to the clone the agent has one thread; those that carry the streams come after it.
    pub(crate) fn start(self, streams: Streams, cgroup: &Cgroup) -> Result<Running, StartError> {
        let Self { spec, account, program, etc, volumes, devices } = self;
        let process = &spec.process;
        let terminal =
            process.terminal.map(|size| Terminal::open(size, account.uid)).transpose()?;
        let (stdio, pumps) = Stdio::connect(process, terminal, streams, account.uid)?;
        let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let launch = Launch {
            spec: &spec,
            furniture: Furniture { etc, volumes, devices, terminal: stdio.terminal() },
            stdio: &stdio,
            confinement: Confinement { spec: process, account: &account },
            program: &program,
        };
        let cloned = sys::clone_into_namespaces(cgroup.as_fd()).doing("make a process")?;
        let Cloned::Parent { pid, pidfd } = cloned else { launch.carry_out(child_report.into()) };
        drop(child_report);
        drop(launch);
        // The process's ends of the pipes must be its alone, or they would never hang up.
        let terminal = stdio.into_master();
        let drained = Some(pumps.start()?);
        read_report(report.into())?;
        Ok(Running { pid, pidfd: Some(pidfd), terminal, drained, status: None })
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
