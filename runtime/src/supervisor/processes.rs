//! What concerns a container that runs beside its own process: more processes, and questions.

use std::fs::File;

use protocol::{
    Answer, ExecSpec, ExitStatus, FileJob, ProcessId, Question, RequestId, StartError, StreamKind,
    ToAgent, WindowSize,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::answers::For;
use super::clients::ClientId;
use super::error::Error;
use super::serve::{Stage, Supervisor};
use crate::containers::Status;
use crate::link::{Failure, FromSupervisor};

/// Who has asked for what.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The processes that were started beside the container's own, and who waits for their ends.
    processes: Vec<(ProcessId, ClientId)>,
    /// The questions that have no answer yet.
    questions: Vec<(RequestId, Option<ClientId>, Question)>,
    /// The last number that was given to either.
    last: u32,
}

impl Asked {
    /// A number that nothing was asked for by.
    pub(super) fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// The process that a client has started.
    pub(super) fn process_of(&self, client: ClientId) -> Option<ProcessId> {
        let found = self.processes.iter().find(|(_, starter)| *starter == client);
        found.map(|(process, _)| *process)
    }

    /// The client that has started a process.
    fn starter_of(&self, process: ProcessId) -> Option<ClientId> {
        let found = self.processes.iter().find(|(started, _)| *started == process);
        found.map(|(_, client)| *client)
    }

    /// Nobody waits for this process's end any more.
    pub(super) fn forget(&mut self, process: ProcessId) {
        self.processes.retain(|(started, _)| *started != process);
    }
}

impl Supervisor<'_> {
    /// Starts one more process for a client, and hands it its streams: they do not come this way.
    pub(super) fn exec(&mut self, client: ClientId, spec: ExecSpec) -> Result<(), Error> {
        if let Some(reason) = self.standing_still() {
            self.clients.tell(client, &FromSupervisor::Refused(reason));
            return Ok(());
        }
        let id = ProcessId(self.asked.next());
        let kinds = streams_of(&spec);
        self.notes.exec(self.record, id, &spec.process.args);
        self.asked.processes.push((id, client));
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
    fn standing_still(&self) -> Option<String> {
        match (self.stage, self.state.status) {
            (Stage::Running, Status::Paused) => Some("it is paused, unpause it first".to_owned()),
            (Stage::Running, _) => None,
            _ => Some("it is not running".to_owned()),
        }
    }

    pub(super) fn exec_started(&mut self, id: ProcessId) {
        if let Some(client) = self.asked.starter_of(id) {
            self.clients.tell(client, &FromSupervisor::Started);
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
    }

    /// The size of a client's terminal is its own process's, or the container's.
    pub(super) fn resize(&mut self, client: ClientId, size: WindowSize) -> Result<(), Error> {
        let id = self.asked.process_of(client).unwrap_or(ProcessId::OWN);
        self.tell_agent(ToAgent::Resize { id, size })
    }

    /// Passes a question on.
    pub(super) fn ask(&mut self, client: ClientId, question: Question) -> Result<(), Error> {
        let reason = match (self.stage, self.state.status, &question) {
            (Stage::Running, Status::Paused, Question::Pause) => "it is already paused",
            (Stage::Running, Status::Running, Question::Unpause) => "it is not paused",
            (Stage::Running, ..) => "",
            _ => "it is not running",
        };
        if !reason.is_empty() {
            self.clients.tell(client, &FromSupervisor::Refused(reason.to_owned()));
            return Ok(());
        }
        self.ask_for(Some(client), question)
    }

    /// Lets a container that stands still go on, for whoever wants to end it.
    pub(super) fn thaw(&mut self) -> Result<(), Error> {
        if self.state.status == Status::Paused {
            self.ask_for(None, Question::Unpause)?;
        }
        Ok(())
    }

    fn ask_for(&mut self, client: Option<ClientId>, question: Question) -> Result<(), Error> {
        let request = RequestId(self.asked.next());
        self.asked.questions.push((request, client, question.clone()));
        self.tell_agent(ToAgent::Ask { request, question })
    }

    /// Passes an answer on, and takes note of what has changed by it.
    pub(super) fn answered(&mut self, request: RequestId, answer: &Answer) {
        let Some(at) = self.asked.questions.iter().position(|(asked, ..)| *asked == request) else {
            return;
        };
        let (_, client, question) = self.asked.questions.swap_remove(at);
        match (&question, answer) {
            (Question::Pause, Answer::Done) => {
                self.enter(Status::Paused);
                self.note("pause", &[]);
            }
            (Question::Unpause, Answer::Done) => {
                self.enter(Status::Running);
                self.note("unpause", &[]);
            }
            (Question::Update(limits), Answer::Done) => self.limited(limits),
            _ => {}
        }
        let Some(client) = client.and_then(|client| self.clients.get(client)) else { return };
        let told = match document(answer) {
            Ok(file) => client.link.try_send_with(&FromSupervisor::Answer, &[file.into()]),
            Err(error) => client.link.try_send(&FromSupervisor::Refused(error.to_string())),
        };
        // The client may be gone by now; the next wait sees it.
        let _ = told;
    }
}

/// An answer may be longer than a message: it travels as a file of memory.
fn document(answer: &Answer) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("answer", MemfdFlags::CLOEXEC)?);
    protocol::write(&mut file, answer).map_err(std::io::Error::other)?;
    Ok(file)
}

fn streams_of(spec: &ExecSpec) -> Vec<StreamKind> {
    if spec.detached { Vec::new() } else { super::agent::streams_of(&spec.process) }
}
