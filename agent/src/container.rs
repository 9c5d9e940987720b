//! The machine's one container: prepared when its spec comes, started when its streams are there.

use std::{fs::File, os::fd::AsFd, sync::Arc};

use protocol::{ContainerSpec, FrameError, StartError, WindowSize};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{
    cgroup::Cgroup,
    clock,
    confinement::Confinement,
    devices::DeviceNodes,
    disks::Disks,
    etc::EtcMounts,
    exchange::Exchange,
    launch::{Launch, Settling},
    network,
    process::Running,
    program::Program,
    rootfs::Furniture,
    stdio::{Stdio, Streams},
    step::Doing,
    sys::{self, Cloned},
    tty::Terminal,
    user::{self, Account},
    volumes::Volumes,
    waiting::Waiting,
};

/// A container that has everything but its streams.
pub(crate) struct Prepared {
    spec: ContainerSpec,
    account: Account,
    root: Root,
}

/// How the first process comes into its root.
enum Root {
    /// It is made, and furnishes the root.
    New { program: Program, etc: EtcMounts, volumes: Volumes, devices: DeviceNodes },
    /// It is there.
    Ready(Waiting),
}

/// What an image's template brings along, and what else a container is made of.
pub(crate) struct Parts<'a> {
    /// The disks, once they are mounted: where they will be released from, whatever fails afterwards.
    pub(crate) disks: &'a mut Option<Disks>,
    /// A first process that waits.
    pub(crate) waiting: Option<Waiting>,
    /// The cgroup.
    pub(crate) cgroup: &'a Cgroup,
}

impl Prepared {
    /// Does what can be done outside of the container: the clock, its root, its user, its program.
    pub(crate) fn new(spec: ContainerSpec, parts: Parts<'_>) -> Result<Self, StartError> {
        let Parts { disks, waiting, cgroup } = parts;
        clock::set(spec.wall_clock)?;
        clock::stir(&spec.entropy)?;
        network::connect(&spec.networks)?;
        let root = match disks {
            Some(disks) => disks.root(),
            none => none.insert(Disks::mount(spec.image_disk, spec.scratch_disk)?).root(),
        };
        let account = user::find(root, &spec.process.user, &spec.process.more_groups)?;
        let root = match waiting {
            Some(waiting) if waiting.serves(&spec) => {
                EtcMounts::rewrite(&spec.hostname, &spec.etc)?;
                Root::Ready(waiting)
            }
            other => {
                other.map_or(Ok(()), Waiting::dismiss)?;
                Root::new(&spec, &account, cgroup)?
            }
        };
        cgroup.begin(&spec.limits)?;
        Ok(Self { spec, account, root })
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
    pub(crate) fn start(
        self,
        streams: Streams,
        exchange: &Arc<Exchange>,
        cgroup: &Cgroup,
    ) -> Result<Running, StartError> {
        let Self { spec, account, root } = self;
        let process = &spec.process;
        let terminal =
            process.terminal.map(|size| Terminal::open(size, account.uid)).transpose()?;
        let (stdio, pumps) = Stdio::connect(process, terminal, streams, account.uid)?;
        let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let (pid, pidfd) = match root {
            Root::Ready(waiting) => waiting.go(spec, account, &stdio, child_report.as_fd())?,
            Root::New { program, etc, volumes, devices } => {
                let furniture = Furniture { etc, volumes, devices, terminal: stdio.terminal() };
                let confinement = Confinement { spec: process, account: &account };
                let settling =
                    Settling { spec: &spec, stdio: &stdio, confinement, program: &program };
                let launch = Launch { furniture, settling };
                match sys::clone_into_namespaces(cgroup.as_fd()).doing("make a process")? {
                    Cloned::Parent { pid, pidfd } => (pid, pidfd),
                    Cloned::Child => launch.carry_out(child_report.into()),
                }
            }
        };
        drop(child_report);
        // The process's ends of the pipes must be its alone, or they would never hang up.
        let terminal = stdio.into_master();
        let drained = Some(pumps.start(exchange)?);
        read_report(report.into())?;
        Ok(Running { pid, pidfd: Some(pidfd), terminal, drained, status: None })
    }
}

impl Root {
    /// All that a root is furnished with by a process to come.
    fn new(spec: &ContainerSpec, account: &Account, cgroup: &Cgroup) -> Result<Self, StartError> {
        let program = Program::new(&spec.process, &account.home)?;
        let etc = EtcMounts::write(spec)?;
        let volumes = Volumes::prepare(&spec.volumes)?;
        let mut devices = DeviceNodes::default();
        if spec.privileged {
            cgroup.open_devices()?;
            devices = DeviceNodes::of_the_machine()?;
        }
        Ok(Self::New { program, etc, volumes, devices })
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
