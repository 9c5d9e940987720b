//! One more process in the container: made outside of it, and let in when it is finished.
//!
//! A helper joins the container's namespaces and takes on all that the new process shall be, user,
//! limits and streams, before it clones the process from itself. The container can see the clone,
//! and may stop or trace it: what it finds there has no descriptor of the agent's and no power that
//! an exec has not. A helper that hangs, on a file system of the container's for one, is
//! waited for by nobody.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use protocol::{ExecSpec, StartError, WindowSize};
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Pid, set_dumpable_behavior, setsid, umask},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

use crate::{
    cgroup::Cgroup,
    confinement::Confinement,
    exchange::Exchange,
    inside,
    launch::FAILED,
    program::Program,
    pump::Pumps,
    report::{self, Listener, Report, Teller},
    stdio::{self, Pipes, Streams},
    step::{Doing, StepError},
    sys::{self, Cloned, Split},
    tty,
    user::{self, Account},
};

/// An exec that has everything but its streams.
pub(crate) struct Prepared {
    spec: ExecSpec,
    account: Account,
    program: Program,
}

/// An exec on its way from a helper to its program.
pub(crate) struct Joining {
    reports: Listener,
    /// The process, once it is there.
    made: Option<Pid>,
    terminal: Option<OwnedFd>,
    /// What the terminal's size has become on the way.
    size: Option<WindowSize>,
    failure: Option<StartError>,
    output: Output,
}

/// What carries its output.
enum Output {
    /// Pipes, whose pumps run already; the descriptor hangs up when all is out.
    Pipes(OwnedFd),
    /// A terminal, which will have this stream, or none.
    Terminal { stream: Option<OwnedFd>, input: stdio::Input },
    /// Nothing.
    None,
}

/// A process that has become its program.
pub(crate) struct Joined {
    /// Its number in the agent's namespace.
    pub(crate) pid: Pid,
    /// The agent's side of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Hangs up when all its output has gone out.
    pub(crate) drained: Option<OwnedFd>,
}

impl Prepared {
    /// Looks up who and what it is, in the container's `root`.
    pub(crate) fn new(spec: ExecSpec, root: BorrowedFd<'_>) -> Result<Self, StartError> {
        let account = user::find(root, &spec.process.user, &spec.process.more_groups)?;
        let program = Program::new(&spec.process, &account.home)?;
        Ok(Self { spec, account, program })
    }

    /// The streams it waits for.
    pub(crate) fn streams(&self) -> Streams {
        if self.spec.detached { Streams::none() } else { Streams::of(&self.spec.process) }
    }

    /// Its terminal's first size, if it has one.
    pub(crate) fn window(&mut self) -> Option<&mut WindowSize> {
        self.spec.process.terminal.as_mut()
    }

    /// Sends a helper on its way into the container of the process `container`.
    pub(crate) fn start(
        &self,
        mut streams: Streams,
        exchange: &Arc<Exchange>,
        container: &OwnedFd,
        cgroup: &Cgroup,
    ) -> Result<Joining, StartError> {
        let process = &self.spec.process;
        let input = stdio::Input::of(process.stdin);
        let (mut pipes, mut pumps) = (Pipes::default(), Pumps::default());
        let mut output = Output::None;
        if process.terminal.is_some() {
            output = Output::Terminal { stream: streams.take_terminal(), input };
        } else if !self.spec.detached {
            (pipes, pumps) = stdio::connect(input, &mut streams, self.account.uid)?;
        }
        let (teller, reports) = report::pair()?;
        let helper = Helper { prepared: self, container, pipes: &pipes, teller: &teller };
        let cloned = sys::clone_into_cgroup(cgroup.as_fd()).doing("make a process")?;
        if matches!(cloned, Cloned::Child) {
            helper.carry_out();
        }
        drop(pipes);
        if !pumps.is_empty() {
            output = Output::Pipes(pumps.start(exchange)?);
        }
        Ok(Joining { reports, made: None, terminal: None, size: None, failure: None, output })
    }
}

impl Joining {
    /// What becomes readable when there is news.
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }

    /// Hears the news; true when nothing more will come.
    pub(crate) fn hear(&mut self) -> bool {
        while let Some(report) = self.reports.next() {
            match report {
                Report::Terminal(master) => self.terminal = Some(master),
                Report::Made(pid) => self.made = Some(pid),
                Report::Failed(error) => self.failure = Some(error),
                Report::End => return true,
            }
        }
        false
    }

    /// Keeps a size until there is a terminal.
    pub(crate) fn resize(&mut self, size: WindowSize) {
        self.size = Some(size);
    }

    /// What came of it, once all is heard.
    pub(crate) fn finish(self, exchange: &Arc<Exchange>) -> Result<Joined, StartError> {
        let silent = || StartError::Setup {
            message: "the new process was killed before it could begin".into(),
        };
        if let Some(error) = self.failure {
            return Err(error);
        }
        let pid = self.made.ok_or_else(silent)?;
        if let (Some(master), Some(size)) = (&self.terminal, self.size) {
            tty::resize(master, size)?;
        }
        let drained = match (self.output, &self.terminal) {
            (Output::Pipes(drained), _) => Some(drained),
            (Output::Terminal { stream, input }, Some(master)) => {
                Some(stdio::connect_terminal(master, stream, input)?.start(exchange)?)
            }
            (Output::Terminal { .. } | Output::None, _) => None,
        };
        Ok(Joined { pid, terminal: self.terminal, drained })
    }
}

/// The process in between, and what it needs to know.
struct Helper<'a> {
    prepared: &'a Prepared,
    container: &'a OwnedFd,
    pipes: &'a Pipes,
    teller: &'a Teller,
}

impl Helper<'_> {
    /// Finishes the process, clones it and ends.
    fn carry_out(&self) -> ! {
        let outcome = self.become_the_process().and_then(|()| {
            match sys::split(sys::Parent::Callers).doing("make a process")? {
                Split::Parent { child } => Ok(self.teller.made(child)?),
                Split::Child => Err(self.become_the_program()),
            }
        });
        match outcome {
            Ok(()) => sys::exit_now(0),
            Err(error) => self.teller.failed(error),
        }
        sys::exit_now(FAILED)
    }

    fn become_the_process(&self) -> Result<(), StartError> {
        let Prepared { spec: ExecSpec { process, .. }, account, .. } = self.prepared;
        let confinement = self.confinement();
        confinement.adjust_oom_score()?;
        join(self.container)?;
        umask(Mode::from_raw_mode(0o022));
        enter_working_dir(&process.working_dir)?;
        match process.terminal {
            None => self.pipes.install()?,
            Some(size) => {
                let sides = tty::open_inside(size, account.uid)?;
                stdio::install_terminal(&sides.slave)?;
                self.teller.terminal(&sides.master)?;
            }
        }
        sys::close_all_but(self.teller).doing("close the agent's descriptors")?;
        confinement.put_on()?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("close its memory")?;
        Ok(())
    }

    /// Returns only when that fails.
    fn become_the_program(&self) -> StartError {
        let prepare = || {
            setsid().doing("start a session")?;
            if self.prepared.spec.process.terminal.is_some() {
                stdio::take_terminal()?;
            }
            sys::default_signals().doing("reset the signals")?;
            self.confinement().close()
        };
        match prepare() {
            Ok(()) => self.prepared.program.execute(),
            Err(error) => error.into(),
        }
    }

    fn confinement(&self) -> Confinement<'_> {
        Confinement { spec: &self.prepared.spec.process, account: &self.prepared.account }
    }
}

/// Moves into the namespaces of a process. That of PIDs is for the children only.
fn join(container: &OwnedFd) -> Result<(), StepError> {
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    move_into_thread_name_spaces(container.as_fd(), namespaces).doing("join the container")
}

fn enter_working_dir(path: &str) -> Result<(), StartError> {
    inside::open_folder(Path::new(path)).and_then(rustix::process::fchdir).map_err(|error| {
        StartError::WorkingDirectory {
            path: path.into(),
            reason: std::io::Error::from(error).to_string(),
        }
    })
}
