//! The agent's side of the conversation: takes the host's words one by one and answers them.

mod adopting;
mod asking;
mod end;
mod files;
mod preparing;

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use protocol::{
    ContainerSpec, ExecSpec, ExitStatus, FrameError, FromAgent, ProcessId, StartError, StreamHello,
    StreamKind, ToAgent, VERSION,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::Pid,
};
use thiserror::Error;

use crate::{
    cgroup::Cgroup,
    container,
    disks::Disks,
    doors::Doors,
    exec,
    files::{Helper, View},
    freezer::Freezer,
    hooks::Hooks,
    process::{Phase, Process, Running, Wish, no_container},
    reaper::Reaper,
    stdio::Streams,
    step::{Doing, StepError, describe},
    waiting::Waiting,
};

/// The conversation and what it is about.
pub(crate) struct Server {
    control: File,
    doors: Doors,
    reaper: Reaper,
    /// Made before the host came; if that failed, the host hears of it when it wants a container.
    cgroup: Result<Cgroup, StepError>,
    disks: Option<Disks>,
    /// The first process of a container that is not known yet.
    waiting: Option<Waiting>,
    /// What jobs about files see, once there is a container.
    view: Option<View>,
    /// Those that are at such jobs.
    helpers: Vec<Helper>,
    freezer: Freezer,
    stage: Stage,
    /// The container's own process, and those that have joined it.
    processes: Vec<Process>,
    /// The largest number that a process has had.
    last_id: ProcessId,
    /// Streams of processes that have not been asked for yet: they come another way.
    early_streams: Vec<(StreamHello, OwnedFd)>,
    /// Those of the streams that have come for a container that goes on in a copy of its machine.
    adopted: Option<Streams>,
    /// What such a container still has to run.
    hooks: Option<Hooks>,
    /// How many processes there were that the host has not asked for.
    unasked: u32,
    /// How those ended that may turn out to be an exec on its way.
    ended: Vec<(Pid, ExitStatus)>,
}

/// How far the container is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// None has been asked for.
    Idle,
    /// It is on its way, or runs.
    Alive,
    /// It has ended or could not be started.
    Over,
    /// Nothing more is written to its disks either.
    Settled,
}

/// How a conversation has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The machine is to be switched off.
    PowerOff,
    /// The host has hung up, to come again for a container of the image that is prepared.
    Prepared,
    /// The host is gone while its container was suspended: this machine is a copy, which has another.
    Copied,
}

/// What the server waits for.
enum Wake {
    Control,
    ControlDoor,
    StreamDoor,
    Child,
    Process(ProcessId),
    Freezer,
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
            cgroup,
            disks: None,
            waiting: None,
            view: None,
            helpers: Vec::new(),
            freezer: Freezer::default(),
            stage: Stage::Idle,
            processes: Vec::new(),
            last_id: ProcessId::OWN,
            early_streams: Vec::new(),
            adopted: None,
            hooks: None,
            unasked: 0,
            ended: Vec::new(),
        }
    }

    /// Serves until the host wants the machine off, or has had an image prepared.
    pub(crate) fn serve(&mut self) -> Result<Farewell, ServeError> {
        match self.converse() {
            Err(ServeError::Control(_)) if self.freezer.is_suspended() => Ok(Farewell::Copied),
            end => end,
        }
    }

    fn converse(&mut self) -> Result<Farewell, ServeError> {
        self.shake_hands()?;
        loop {
            match self.wait()? {
                Wake::Control => match protocol::read(&mut self.control)? {
                    ToAgent::PowerOff => return Ok(Farewell::PowerOff),
                    ToAgent::Prepare(preparation) => {
                        if self.prepare(&preparation)? {
                            return Ok(Farewell::Prepared);
                        }
                    }
                    message => self.obey(message)?,
                },
                Wake::StreamDoor => self.admit_stream()?,
                Wake::ControlDoor => drop(self.doors.accept_at_control()),
                Wake::Child => self.collect_children()?,
                Wake::Process(id) => self.hear(id)?,
                Wake::Freezer => self.hear_freezer()?,
            }
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
        let result = match message {
            ToAgent::Run(spec) => return self.run(*spec),
            ToAgent::Exec { id, spec } => return self.exec(id, *spec),
            ToAgent::Ask { request, question } => return self.ask(request, question),
            ToAgent::Open(spec) => return self.open(&spec),
            ToAgent::Files { id, job } => return self.files(id, job),
            ToAgent::Adopt(adoption) => return self.adopt(*adoption),
            ToAgent::Signal { id, number } => match self.process(id) {
                Some(process) => process.signal(number),
                None => Ok(()),
            },
            ToAgent::Resize { id, size } => match self.process(id) {
                Some(process) => process.resize(size),
                None => Ok(()),
            },
            ToAgent::Hello { .. } => return self.complain("the host said hello twice".into()),
            // Both end the conversation, and come no further than to who reads them.
            ToAgent::PowerOff | ToAgent::Prepare(_) => Ok(()),
        };
        result.or_else(|error| self.complain(describe(&error)))
    }

    fn run(&mut self, spec: ContainerSpec) -> Result<(), ServeError> {
        if self.stage != Stage::Idle {
            return self.complain("this machine already has its container".into());
        }
        self.stage = Stage::Alive;
        self.view = Some(View::of(&spec));
        let prepared = match &self.cgroup {
            Ok(cgroup) => {
                let (disks, waiting) = (&mut self.disks, self.waiting.take());
                container::Prepared::new(spec, container::Parts { disks, waiting, cgroup })
            }
            Err(error) => Err(StartError::Setup { message: describe(error) }),
        };
        self.wish(ProcessId::OWN, prepared.map(|prepared| Wish::Container(Box::new(prepared))))
    }

    fn exec(&mut self, id: ProcessId, spec: ExecSpec) -> Result<(), ServeError> {
        if id <= self.last_id {
            return self.complain(format!("a process {} came again", id.0));
        }
        self.last_id = id;
        let wish = match (&self.disks, self.container()) {
            (Some(_), Some(_)) if self.freezer.is_on() => {
                Err(StartError::Setup { message: "the container is paused".into() })
            }
            (Some(disks), Some(_)) => exec::Prepared::new(spec, disks.root())
                .map(|prepared| Wish::Exec(Box::new(prepared))),
            _ => Err(no_container()),
        };
        self.wish(id, wish)
    }

    /// Begins with a process that is wished for, and with those of its streams that are there.
    fn wish(&mut self, id: ProcessId, wish: Result<Wish, StartError>) -> Result<(), ServeError> {
        let (streams, others) =
            std::mem::take(&mut self.early_streams).into_iter().partition(|(of, _)| of.id == id);
        self.early_streams = others;
        match wish {
            Ok(wish) => self.processes.push(Process::new(id, wish)),
            Err(error) => return self.give_up(id, error),
        }
        let streams: Vec<(StreamHello, OwnedFd)> = streams;
        for (hello, socket) in streams {
            self.connect(hello, socket)?;
        }
        self.start_if_complete(id)
    }

    fn admit_stream(&mut self) -> Result<(), ServeError> {
        const MOST_EARLY_STREAMS: usize = 64;
        let Some(socket) = self.doors.accept_at_stream() else { return Ok(()) };
        let mut socket = File::from(socket);
        let Ok(hello) = protocol::read::<StreamHello>(&mut socket) else {
            return self.complain("a stream did not say what it is".into());
        };
        if hello.id > self.last_id {
            if self.early_streams.len() == MOST_EARLY_STREAMS {
                self.early_streams.remove(0);
            }
            self.early_streams.push((hello, socket.into()));
            return Ok(());
        }
        self.connect(hello, socket.into())?;
        self.start_if_complete(hello.id)
    }

    fn connect(&mut self, hello: StreamHello, socket: OwnedFd) -> Result<(), ServeError> {
        let StreamHello { id, kind } = hello;
        if id == ProcessId::OWN && self.adopted.is_some() {
            let taken = self.take_anew(hello, socket)?;
            return if taken { Ok(()) } else { self.complain(unwanted(id, kind)) };
        }
        // It was given up before its streams came.
        let Some(process) = self.process(id) else { return Ok(()) };
        let taken = match &mut process.phase {
            Phase::Waiting { streams, .. } => streams.add(kind, socket),
            _ => false,
        };
        if taken { Ok(()) } else { self.complain(unwanted(id, kind)) }
    }

    fn start_if_complete(&mut self, id: ProcessId) -> Result<(), ServeError> {
        // A copy, since the container's own process is one of those it is looked for among.
        let container = match id {
            ProcessId::OWN => None,
            _ => self.container().and_then(|own| own.pidfd.as_ref()?.try_clone().ok()),
        };
        let Ok(cgroup) = &self.cgroup else { return Ok(()) };
        let mut waiting = self.processes.iter_mut().filter(|process| process.is_waiting());
        let Some(process) = waiting.find(|process| process.id == id) else { return Ok(()) };
        if let Some((job, stream)) = process.take_files() {
            self.processes.retain(|process| process.id != id);
            return self.start_helper(&job, stream);
        }
        match process.start_if_complete(container.as_ref(), cgroup) {
            Ok(()) if matches!(process.phase, Phase::Running(_)) => self.started(id),
            Ok(()) => Ok(()),
            Err(error) => self.give_up(id, error),
        }
    }

    fn started(&mut self, id: ProcessId) -> Result<(), ServeError> {
        if self.is_asked(id) {
            self.say(&FromAgent::Started { id })?;
        }
        let sent = self.process(id).map_or(Ok(()), Process::send_early_signals);
        sent.or_else(|error| self.complain(describe(&error)))
    }

    /// Hears how far an exec has come, or that all output of a process is out.
    fn hear(&mut self, id: ProcessId) -> Result<(), ServeError> {
        let Some(process) = self.processes.iter_mut().find(|process| process.id == id) else {
            return Ok(());
        };
        if let Phase::Running(running) = &mut process.phase {
            running.drained = None;
            return self.tell_ends();
        }
        let ended = &self.ended;
        let status = |pid| ended.iter().find(|(other, _)| *other == pid).map(|(_, status)| *status);
        match process.hear(status) {
            Ok(true) => {
                self.started(id)?;
                self.tell_ends()
            }
            Ok(false) => Ok(()),
            Err(error) => self.give_up(id, error),
        }
    }

    fn collect_children(&mut self) -> Result<(), ServeError> {
        for (pid, status) in self.reaper.collect() {
            if self.is_helper(pid)? {
                continue;
            }
            let process = self.processes.iter_mut().find_map(|process| match &mut process.phase {
                Phase::Running(running) if running.pid == pid => Some(running),
                _ => None,
            });
            match process {
                Some(running) => running.status = running.status.or(Some(status)),
                None => self.ended.push((pid, status)),
            }
        }
        if !self.processes.iter().any(|process| matches!(process.phase, Phase::Joining(_))) {
            self.ended.clear();
        }
        self.tell_ends()
    }

    /// The end of a process is told when it is gone and all it wrote has been sent before. With
    /// the container's own all others end: the kernel has killed them, and they have been
    /// collected before it.
    fn tell_ends(&mut self) -> Result<(), ServeError> {
        while let Some((id, status)) = self.processes.iter().find_map(Process::whole_end) {
            if id == ProcessId::OWN {
                return self.tell_the_last_end(status);
            }
            self.processes.retain(|process| process.id != id);
            self.exited(id, status)?;
            self.hook_ended(id, Some(status))?;
        }
        Ok(())
    }

    fn tell_the_last_end(&mut self, status: ExitStatus) -> Result<(), ServeError> {
        const KILLED: ExitStatus = ExitStatus::Signal(9);
        self.stage = Stage::Over;
        for process in std::mem::take(&mut self.processes) {
            match process {
                Process { id: ProcessId::OWN, .. } => {}
                Process { id, phase: Phase::Running(running), .. } => {
                    self.exited(id, running.status.unwrap_or(KILLED))?;
                }
                Process { id, .. } => self.give_up(id, no_container())?,
            }
        }
        self.exited(ProcessId::OWN, status)?;
        self.settle();
        Ok(())
    }

    fn exited(&mut self, id: ProcessId, status: ExitStatus) -> Result<(), ServeError> {
        if !self.is_asked(id) {
            return Ok(());
        }
        let out_of_memory = self.cgroup.as_ref().ok().and_then(Cgroup::out_of_memory);
        self.say(&FromAgent::Exited { id, status, out_of_memory })
    }

    fn give_up(&mut self, id: ProcessId, error: StartError) -> Result<(), ServeError> {
        self.processes.retain(|process| process.id != id);
        if id == ProcessId::OWN {
            self.stage = Stage::Over;
        }
        if self.is_asked(id) {
            self.say(&FromAgent::StartFailed { id, error })?;
        }
        self.hook_ended(id, None)
    }

    fn complain(&mut self, message: String) -> Result<(), ServeError> {
        self.say(&FromAgent::Trouble { message })
    }

    fn say(&mut self, message: &FromAgent) -> Result<(), ServeError> {
        Ok(protocol::write(&mut self.control, message)?)
    }

    fn process(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.id == id)
    }

    /// The container's own process, while it runs.
    fn container(&self) -> Option<&Running> {
        self.processes.iter().find_map(|process| match process {
            Process { id: ProcessId::OWN, phase: Phase::Running(own), .. } => {
                own.status.is_none().then_some(own)
            }
            _ => None,
        })
    }

    /// Waits for the next thing to do; what ended comes before what is new.
    fn wait(&self) -> Result<Wake, StepError> {
        fn on(fd: BorrowedFd<'_>, flags: PollFlags) -> PollFd<'_> {
            PollFd::from_borrowed_fd(fd, flags)
        }
        let mut sources = vec![(Wake::Child, on(self.reaper.wake().as_fd(), PollFlags::IN))];
        sources.extend(self.processes.iter().filter_map(|process| {
            Some((Wake::Process(process.id), on(process.news()?, PollFlags::IN)))
        }));
        sources.push((Wake::Control, on(self.control.as_fd(), PollFlags::IN)));
        sources.push((Wake::ControlDoor, on(self.doors.control.as_fd(), PollFlags::IN)));
        // A stream may come before the words that tell what it is for: it waits at its door.
        if self.stage != Stage::Idle && !self.freezer.is_suspended() {
            sources.push((Wake::StreamDoor, on(self.doors.stream.as_fd(), PollFlags::IN)));
        }
        sources.extend(self.freezer.news().map(|fd| (Wake::Freezer, on(fd, PollFlags::PRI))));
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

fn unwanted(id: ProcessId, kind: StreamKind) -> String {
    format!("a {kind:?} stream came that process {} does not need", id.0)
}
