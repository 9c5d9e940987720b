//! Processes that are started beside a container's own.

use std::time::{Duration, Instant};

use protocol::{
    ExecSpec, ExitStatus, FileJob, ProcessId, StartError, StreamKind, ToAgent, WindowSize,
};

use super::alarms::Alarm;
use super::answers::For;
use super::clients::ClientId;
use super::error::Error;
use super::serve::{Stage, Supervisor};
use crate::containers::Status;
use crate::link::{Failure, FromSupervisor};
use crate::signal::SignalNumber;

/// Who has asked for what.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The processes that were started beside the container's own, and that somebody waits for.
    processes: Vec<Asker>,
    /// The last number that was given to any of them, or to a question.
    last: u32,
}

/// Somebody who waits for a process.
#[derive(Debug)]
struct Asker {
    process: ProcessId,
    client: ClientId,
    /// By when it should have begun; none once it has.
    by: Option<Instant>,
}

impl Asked {
    /// A number that nothing was asked for by.
    pub(super) fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// The process that a client has started.
    pub(super) fn process_of(&self, client: ClientId) -> Option<ProcessId> {
        let found = self.processes.iter().find(|asker| asker.client == client);
        found.map(|asker| asker.process)
    }

    /// The client that has started a process.
    fn starter_of(&self, process: ProcessId) -> Option<ClientId> {
        let found = self.processes.iter().find(|asker| asker.process == process);
        found.map(|asker| asker.client)
    }

    /// It has begun.
    fn begun(&mut self, process: ProcessId) {
        let asker = self.processes.iter_mut().find(|asker| asker.process == process);
        if let Some(asker) = asker {
            asker.by = None;
        }
    }

    /// Forgets those whose process should have begun by now.
    fn take_overdue(&mut self) -> Vec<Asker> {
        let now = Instant::now();
        self.processes.extract_if(.., |asker| asker.by.is_some_and(|by| by <= now)).collect()
    }

    /// Waits for so much longer.
    pub(super) fn postpone(&mut self, time: Duration) {
        self.processes.iter_mut().filter_map(|asker| asker.by.as_mut()).for_each(|by| *by += time);
    }

    /// The time until one of them should have begun.
    fn next_deadline(&self) -> Option<Duration> {
        let first = self.processes.iter().filter_map(|asker| asker.by).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Nobody waits for this process's end any more.
    pub(super) fn forget(&mut self, process: ProcessId) {
        self.processes.retain(|asker| asker.process != process);
    }
}

impl Supervisor<'_> {
    /// Starts one more process for a client, and hands it its streams: they do not come this way.
    pub(super) fn exec(&mut self, client: ClientId, spec: ExecSpec) -> Result<(), Error> {
        if let Some(reason) = self.standing_still() {
            self.clients.tell(client, &FromSupervisor::Refused(reason));
            return Ok(());
        }
        if let Some(client) = self.clients.get(client) {
            client.has_process = true;
        }
        let Some(spec) = self.keep_for_later(client, spec) else { return Ok(()) };
        let id = ProcessId(self.asked.next());
        let kinds = streams_of(&spec);
        self.notes.exec(self.record, id, &spec.process.args);
        let by = Instant::now().checked_add(self.parts.patience);
        self.asked.processes.push(Asker { process: id, client, by });
        self.await_beginnings();
        self.tell_agent(ToAgent::Exec { id, spec: Box::new(spec) })?;
        self.knock_for(For::Client(client), id, &kinds)
    }

    /// Lets the agent do something about files for a client. It does not matter whether the container
    /// stands still.
    pub(super) fn files(&mut self, client: ClientId, job: Box<FileJob>) -> Result<(), Error> {
        if self.stage != Stage::Running {
            let reason = "it is not running".to_owned();
            self.clients.tell(client, &FromSupervisor::Refused(reason));
            return Ok(());
        }
        let id = ProcessId(self.asked.next());
        self.tell_agent(ToAgent::Files { id, job })?;
        self.knock_for(For::Client(client), id, &[StreamKind::Files])
    }

    /// Why nothing can be started or asked for now.
    pub(super) fn standing_still(&self) -> Option<String> {
        match (self.stage, self.state.status) {
            (Stage::Running, Status::Paused) => Some("it is paused, unpause it first".to_owned()),
            (Stage::Running, _) => None,
            _ => Some("it is not running".to_owned()),
        }
    }

    pub(super) fn exec_started(&mut self, id: ProcessId) {
        self.asked.begun(id);
        self.await_beginnings();
        if let Some(client) = self.asked.starter_of(id) {
            self.clients.tell(client, &FromSupervisor::Started);
        }
    }

    /// Who has waited too long for a process hears so; it shall not begin later.
    pub(super) fn beginnings_overdue(&mut self) -> Result<(), Error> {
        let reason =
            vmm::error::chain(&Error::NotStarted { seconds: self.parts.patience.as_secs() });
        for Asker { process, client, .. } in self.asked.take_overdue() {
            self.clients.tell(client, &FromSupervisor::Refused(reason.clone()));
            let number = SignalNumber::KILL.number();
            self.tell_agent(ToAgent::Signal { id: process, number })?;
        }
        self.await_beginnings();
        Ok(())
    }

    fn await_beginnings(&mut self) {
        match self.asked.next_deadline() {
            Some(left) => self.alarms.set(Alarm::Begun, left),
            None => self.alarms.clear(Alarm::Begun),
        }
    }

    pub(super) fn exec_failed(&mut self, id: ProcessId, error: StartError) {
        self.notes.exec_ended(self.record, id, None);
        if self.check_failed(id, &error) {
            return;
        }
        // Docker's code; for a container itself the folder is made.
        let own = matches!(error, StartError::WorkingDirectory { .. }).then_some(127);
        let failure = Error::Start(error).into_failure("");
        let failure = Failure { code: own.unwrap_or(failure.code), ..failure };
        self.exec_over(id, &FromSupervisor::Failed(failure));
    }

    pub(super) fn exec_exited(&mut self, id: ProcessId, status: ExitStatus) {
        self.notes.exec_ended(self.record, id, Some(status.shell_code()));
        if !self.check_exited(id, status) {
            self.exec_over(id, &FromSupervisor::Exited(status.shell_code()));
        }
    }

    fn exec_over(&mut self, id: ProcessId, message: &FromSupervisor) {
        if let Some(client) = self.asked.starter_of(id) {
            self.clients.tell(client, message);
        }
        self.asked.forget(id);
        self.await_beginnings();
    }

    /// The size of a client's terminal is its own process's, or the container's if it has wanted none. One that
    /// waits begins with it, and one that has ended needs it no more.
    pub(super) fn resize(&mut self, client: ClientId, size: WindowSize) -> Result<(), Error> {
        self.resize_waiting(client, size);
        let has_process = self.clients.get(client).is_some_and(|client| client.has_process);
        let own = (!has_process).then_some(ProcessId::OWN);
        match self.asked.process_of(client).or(own) {
            Some(id) => self.tell_agent(ToAgent::Resize { id, size }),
            None => Ok(()),
        }
    }
}

fn streams_of(spec: &ExecSpec) -> Vec<StreamKind> {
    if spec.detached { Vec::new() } else { super::agent::streams_of(&spec.process) }
}
