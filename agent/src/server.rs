//! The agent's side of the conversation: takes the host's words one by one and answers them.

use std::{fs::File, os::fd::OwnedFd, time::Duration};

use protocol::{
    Answer, CONTROL_PORT, ContainerSpec, ExitStatus, FrameError, FromAgent, ProcessId, STREAM_PORT,
    StartError, StreamHello, ToAgent, VERSION, WindowSize,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use thiserror::Error;

use crate::{
    cgroup::Cgroup,
    container::{Container, Prepared},
    disks::Disks,
    reaper::Reaper,
    stdio::Streams,
    step::{Doing, StepError, describe},
    sys,
};

/// The conversation and what it is about.
pub(crate) struct Server {
    control: File,
    doors: Doors,
    reaper: Reaper,
    /// Made before the host came; if that failed, the host hears of it when it wants a container.
    cgroup: Option<Result<Cgroup, StepError>>,
    disks: Option<Disks>,
    phase: Phase,
    /// Signals that came before there was a process.
    early_signals: Vec<i32>,
}

/// How far the container is.
enum Phase {
    /// None has been asked for.
    Idle,
    /// Its streams are not all connected yet.
    Waiting { prepared: Box<Prepared>, streams: Streams },
    /// Its process runs, or has ended while output is still on its way.
    Running { container: Container, status: Option<ExitStatus>, outputs: Outputs },
    /// It has ended or could not be started.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outputs {
    Flowing,
    Drained,
}

/// What the server waits for.
enum Wake {
    Control,
    ControlDoor,
    StreamDoor,
    Child,
    Drained,
}

/// Why a conversation ended other than by a word of farewell.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The control connection failed; without the host there is nothing to live for.
    #[error("the control connection is lost")]
    Control(#[from] FrameError),
    /// The host speaks another version.
    #[error("the host speaks version {host} of the protocol, this agent {VERSION}")]
    Version {
        /// The host's version.
        host: u32,
    },
    /// The host said something else first.
    #[error("the host did not say hello first")]
    NoHello,
    /// The agent itself failed.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl Server {
    /// A server for the host at the other end of `control`.
    pub(crate) fn new(
        control: OwnedFd,
        doors: Doors,
        reaper: Reaper,
        cgroup: Result<Cgroup, StepError>,
    ) -> Self {
        Self {
            control: control.into(),
            doors,
            reaper,
            cgroup: Some(cgroup),
            disks: None,
            phase: Phase::Idle,
            early_signals: Vec::new(),
        }
    }

    /// Serves until the host wants the machine off.
    pub(crate) fn serve(&mut self) -> Result<(), ServeError> {
        self.shake_hands()?;
        loop {
            match self.wait()? {
                Wake::Control => match protocol::read(&mut self.control)? {
                    ToAgent::PowerOff => return Ok(()),
                    message => self.obey(message)?,
                },
                Wake::StreamDoor => self.admit_stream()?,
                Wake::ControlDoor => drop(self.doors.accept_at_control()),
                Wake::Child => self.collect_children()?,
                Wake::Drained => self.note_drained()?,
            }
        }
    }

    /// Ends the container, if it still runs, and lets go of its disks.
    pub(crate) fn end_container(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        if let Some(Ok(cgroup)) = &self.cgroup
            && cgroup.kill().is_ok()
            && let Phase::Running { container, status: None, .. } = &self.phase
        {
            let _ = self.reaper.await_end(container.pid, PATIENCE);
        }
        self.phase = Phase::Over;
        if let Some(disks) = self.disks.take() {
            disks.release();
        }
    }

    /// Both say their version; the agent answers before it judges, so that the host can tell.
    fn shake_hands(&mut self) -> Result<(), ServeError> {
        let ToAgent::Hello { version: host } = protocol::read(&mut self.control)? else {
            return Err(ServeError::NoHello);
        };
        self.say(&FromAgent::Hello { version: VERSION })?;
        if host == VERSION { Ok(()) } else { Err(ServeError::Version { host }) }
    }

    fn obey(&mut self, message: ToAgent) -> Result<(), ServeError> {
        match message {
            ToAgent::Run(spec) => self.prepare(*spec),
            ToAgent::Signal { id: ProcessId::OWN, number } => self.signal(number),
            ToAgent::Resize { id: ProcessId::OWN, size } => self.resize(size),
            ToAgent::Signal { .. } | ToAgent::Resize { .. } => Ok(()),
            ToAgent::Exec { id, .. } => {
                let error = StartError::Setup { message: "there is no exec yet".into() };
                self.say(&FromAgent::StartFailed { id, error })
            }
            ToAgent::Ask { request, .. } => {
                let answer = Answer::Failed { message: "there is no answer yet".into() };
                self.say(&FromAgent::Answer { request, answer })
            }
            ToAgent::Hello { .. } => self.complain("the host said hello twice".into()),
            ToAgent::PowerOff => Ok(()),
        }
    }

    fn prepare(&mut self, spec: ContainerSpec) -> Result<(), ServeError> {
        if !matches!(self.phase, Phase::Idle) {
            return self.complain("this machine already has its container".into());
        }
        let prepared = match self.cgroup.take() {
            Some(Ok(cgroup)) => {
                let prepared = Prepared::new(spec, &mut self.disks, &cgroup);
                self.cgroup = Some(Ok(cgroup));
                prepared
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(StartError::Setup { message: "there is no cgroup".into() }),
        };
        match prepared {
            Ok(prepared) => {
                let prepared = Box::new(prepared);
                self.phase = Phase::Waiting { prepared, streams: Streams::default() };
                self.start_if_complete()
            }
            Err(error) => self.give_up(error),
        }
    }

    fn admit_stream(&mut self) -> Result<(), ServeError> {
        let Some(socket) = self.doors.accept_at_stream() else { return Ok(()) };
        let mut socket = File::from(socket);
        let Ok(StreamHello { id: ProcessId::OWN, kind }) = protocol::read(&mut socket) else {
            return self.complain("a stream did not say what it is".into());
        };
        let Phase::Waiting { prepared, streams } = &mut self.phase else {
            return self.complain(format!("a {kind:?} stream came when none was awaited"));
        };
        if !streams.add(kind, socket.into(), &prepared.spec.process) {
            return self.complain(format!("a {kind:?} stream came that is not needed"));
        }
        self.start_if_complete()
    }

    fn start_if_complete(&mut self) -> Result<(), ServeError> {
        let (prepared, streams) = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Waiting { prepared, streams }
                if streams.are_complete(&prepared.spec.process) =>
            {
                (prepared, streams)
            }
            phase => {
                self.phase = phase;
                return Ok(());
            }
        };
        let Some(Ok(cgroup)) = &self.cgroup else { return Ok(()) };
        match prepared.start(streams, cgroup) {
            Ok(container) => {
                self.say(&FromAgent::Started { id: ProcessId::OWN })?;
                let signals = std::mem::take(&mut self.early_signals);
                self.phase = Phase::Running { container, status: None, outputs: Outputs::Flowing };
                signals.into_iter().try_for_each(|number| self.signal(number))
            }
            Err(error) => self.give_up(error),
        }
    }

    fn signal(&mut self, number: i32) -> Result<(), ServeError> {
        const MOST_EARLY_SIGNALS: usize = 64;
        let result = match &self.phase {
            Phase::Running { container, status: None, .. } => container.signal(number),
            Phase::Idle | Phase::Waiting { .. } => {
                if self.early_signals.len() < MOST_EARLY_SIGNALS {
                    self.early_signals.push(number);
                }
                Ok(())
            }
            Phase::Running { .. } | Phase::Over => Ok(()),
        };
        result.or_else(|error| self.complain(describe(&error)))
    }

    fn resize(&mut self, size: WindowSize) -> Result<(), ServeError> {
        let result = match &mut self.phase {
            Phase::Running { container, .. } => container.resize(size),
            Phase::Waiting { prepared, .. } => {
                if let Some(initial) = &mut prepared.spec.process.terminal {
                    *initial = size;
                }
                Ok(())
            }
            Phase::Idle | Phase::Over => Ok(()),
        };
        result.or_else(|error| self.complain(describe(&error)))
    }

    fn collect_children(&mut self) -> Result<(), ServeError> {
        let awaited = match &self.phase {
            Phase::Running { container, .. } => Some(container.pid),
            _ => None,
        };
        let ended = self.reaper.collect(awaited);
        if let Phase::Running { status, .. } = &mut self.phase {
            *status = status.or(ended);
        }
        self.tell_the_end()
    }

    fn note_drained(&mut self) -> Result<(), ServeError> {
        if let Phase::Running { outputs, .. } = &mut self.phase {
            *outputs = Outputs::Drained;
        }
        self.tell_the_end()
    }

    /// The end is told when the process is gone and all it wrote has been sent before.
    fn tell_the_end(&mut self) -> Result<(), ServeError> {
        let Phase::Running { status: Some(status), outputs: Outputs::Drained, .. } = self.phase
        else {
            return Ok(());
        };
        self.phase = Phase::Over;
        self.say(&FromAgent::Exited { id: ProcessId::OWN, status, out_of_memory: None })
    }

    fn give_up(&mut self, error: StartError) -> Result<(), ServeError> {
        self.phase = Phase::Over;
        self.say(&FromAgent::StartFailed { id: ProcessId::OWN, error })
    }

    fn complain(&mut self, message: String) -> Result<(), ServeError> {
        self.say(&FromAgent::Trouble { message })
    }

    fn say(&mut self, message: &FromAgent) -> Result<(), ServeError> {
        Ok(protocol::write(&mut self.control, message)?)
    }

    /// Waits for the next thing to do; what ended comes before what is new.
    fn wait(&self) -> Result<Wake, StepError> {
        let drained = match &self.phase {
            Phase::Running { container, outputs: Outputs::Flowing, .. } => Some(&container.drained),
            _ => None,
        };
        // A stream may come before the words that tell what it is for: it waits at its door.
        let stream_door = (!matches!(self.phase, Phase::Idle)).then_some(&self.doors.stream);
        let mut sources = vec![
            (Wake::Child, PollFd::new(self.reaper.wake(), PollFlags::IN)),
            (Wake::Control, PollFd::new(&self.control, PollFlags::IN)),
            (Wake::ControlDoor, PollFd::new(&self.doors.control, PollFlags::IN)),
        ];
        sources.extend(stream_door.map(|fd| (Wake::StreamDoor, PollFd::new(fd, PollFlags::IN))));
        sources.extend(drained.map(|fd| (Wake::Drained, PollFd::new(fd, PollFlags::IN))));
        loop {
            let mut waiting: Vec<_> = sources.iter().map(|(_, fd)| fd.clone()).collect();
            match poll(&mut waiting, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).doing("wait for the host"),
            }
            if let Some(place) = waiting.iter().position(|fd| !fd.revents().is_empty()) {
                return Ok(sources.swap_remove(place).0);
            }
        }
    }
}

/// The two vsock ports on which the host finds the agent.
pub(crate) struct Doors {
    control: OwnedFd,
    stream: OwnedFd,
}

impl Doors {
    /// Listens on both ports.
    pub(crate) fn open() -> Result<Self, StepError> {
        let listen =
            |port| sys::vsock_listen(port).doing(format_args!("listen on vsock port {port}"));
        Ok(Self { control: listen(CONTROL_PORT)?, stream: listen(STREAM_PORT)? })
    }

    /// Waits for the control connection.
    pub(crate) fn wait_for_host(&self) -> Result<OwnedFd, StepError> {
        loop {
            match sys::vsock_accept(&self.control) {
                Ok(peer) if peer.cid == sys::HOST_CID => return Ok(peer.socket),
                // Not the host, or gone again before it was let in.
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error).doing("wait for the host"),
            }
        }
    }

    fn accept_at_control(&self) -> Option<OwnedFd> {
        accept_host(&self.control)
    }

    fn accept_at_stream(&self) -> Option<OwnedFd> {
        accept_host(&self.stream)
    }
}

/// The connection waiting at a door, if it is the host's; any other is closed.
fn accept_host(door: &OwnedFd) -> Option<OwnedFd> {
    let peer = sys::vsock_accept(door).ok()?;
    (peer.cid == sys::HOST_CID).then_some(peer.socket)
}

/// Whether an `accept` failed for a reason that concerns one connection only.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INTR | Errno::CONNABORTED | Errno::CONNRESET | Errno::AGAIN)
    )
}
