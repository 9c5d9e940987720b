//! Questions about a container that runs, on their way from clients to the agent, and the answers back.
//! An agent that gives none holds up nobody for long.

use std::fs::File;
use std::time::{Duration, Instant};

use protocol::{Answer, Question, RequestId, ToAgent};
use rustix::fs::{MemfdFlags, memfd_create};

use super::alarms::Alarm;
use super::clients::ClientId;
use super::error::Error;
use super::knock::{ANSWER_TIMEOUT, no_answer};
use super::serve::{Stage, Supervisor};
use crate::containers::Status;
use crate::link::FromSupervisor;

/// The questions that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Questions(Vec<Pending>);

#[derive(Debug)]
struct Pending {
    request: RequestId,
    question: Question,
    /// Who wants to know.
    client: Option<ClientId>,
    /// By when they should have been answered.
    by: Instant,
}

impl Questions {
    fn take(&mut self, request: RequestId) -> Option<Pending> {
        let at = self.0.iter().position(|pending| pending.request == request)?;
        Some(self.0.swap_remove(at))
    }

    /// Who should have been answered by now. What changes something is taken note of however late its
    /// answer comes.
    fn take_overdue(&mut self) -> Vec<ClientId> {
        let now = Instant::now();
        let overdue = self.0.iter_mut().filter(|pending| pending.by <= now);
        let clients = overdue.filter_map(|pending| pending.client.take()).collect();
        self.0.retain(|pending| pending.by > now || changes(&pending.question));
        clients
    }

    /// Waits for so much longer.
    pub(super) fn postpone(&mut self, time: Duration) {
        self.0.iter_mut().for_each(|pending| pending.by += time);
    }

    /// The time until somebody should have been answered.
    fn next_deadline(&self) -> Option<Duration> {
        let waiting = self.0.iter().filter(|pending| pending.client.is_some());
        let first = waiting.map(|pending| pending.by).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }
}

fn changes(question: &Question) -> bool {
    use Question::{Connect, Disconnect, Pause, Resume, Suspend, Unpause, Update};
    matches!(
        question,
        Pause | Unpause | Update(_) | Connect { .. } | Disconnect { .. } | Suspend | Resume
    )
}

impl Supervisor<'_> {
    /// Passes a question on.
    pub(super) fn ask(&mut self, client: ClientId, question: Question) -> Result<(), Error> {
        let changes = matches!(question, Question::Pause | Question::Unpause);
        let reason = match (self.stage, self.state.status, &question) {
            (Stage::Running, ..) if changes && self.snapshot.is_some() => {
                "a snapshot of it is being taken"
            }
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

    pub(super) fn ask_for(
        &mut self,
        client: Option<ClientId>,
        question: Question,
    ) -> Result<(), Error> {
        let request = RequestId(self.asked.next());
        let by = Instant::now() + ANSWER_TIMEOUT;
        self.questions.0.push(Pending { request, question: question.clone(), client, by });
        self.await_answers();
        self.tell_agent(ToAgent::Ask { request, question })
    }

    /// Whoever has waited too long for an answer hears so.
    pub(super) fn questions_overdue(&mut self) {
        let reason = vmm::error::chain(&no_answer());
        for client in self.questions.take_overdue() {
            self.clients.tell(client, &FromSupervisor::Refused(reason.clone()));
        }
        self.await_answers();
    }

    fn await_answers(&mut self) {
        match self.questions.next_deadline() {
            Some(left) => self.alarms.set(Alarm::Replied, left),
            None => self.alarms.clear(Alarm::Replied),
        }
    }

    /// Passes an answer on, and takes note of what has changed by it.
    pub(super) fn answered(&mut self, request: RequestId, answer: &Answer) -> Result<(), Error> {
        let Some(Pending { question, client, .. }) = self.questions.take(request) else {
            return Ok(());
        };
        self.await_answers();
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
            (Question::Suspend, answer) => self.suspended(answer)?,
            (Question::Resume, _) => self.resumed()?,
            _ => self.interface_answered(&question, answer)?,
        }
        let Some(client) = client.and_then(|client| self.clients.get(client)) else {
            return Ok(());
        };
        let told = match document(answer) {
            Ok(file) => client.link.try_send_with(&FromSupervisor::Answer, &[file.into()]),
            Err(error) => client.link.try_send(&FromSupervisor::Refused(error.to_string())),
        };
        // The client may be gone by now; the next wait sees it.
        let _ = told;
        Ok(())
    }
}

/// An answer may be longer than a message: it travels as a file of memory.
fn document(answer: &Answer) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("answer", MemfdFlags::CLOEXEC)?);
    protocol::write(&mut file, answer).map_err(std::io::Error::other)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_too_long_is_named_once_and_changes_are_remembered() {
        let now = Instant::now();
        let pending = |number, question, client, by| Pending {
            request: RequestId(number),
            question,
            client,
            by,
        };
        let mut questions = Questions(vec![
            pending(1, Question::Top, Some(7), now),
            pending(2, Question::Pause, Some(8), now),
            pending(3, Question::Unpause, None, now),
            pending(4, Question::Stats, Some(9), now + Duration::from_secs(1000)),
        ]);
        assert_eq!(questions.next_deadline(), Some(Duration::ZERO));
        questions.postpone(Duration::from_secs(1000));
        assert!(questions.take_overdue().is_empty());
        questions.0.iter_mut().for_each(|pending| pending.by -= Duration::from_secs(1000));
        assert_eq!(questions.take_overdue(), [7, 8]);
        assert!(questions.next_deadline().unwrap() > Duration::from_secs(900));
        assert!(questions.take_overdue().is_empty());
        assert!(questions.take(RequestId(1)).is_none());
        assert_eq!(questions.take(RequestId(2)).unwrap().client, None);
        assert!(questions.take(RequestId(3)).is_some());
        assert_eq!(questions.take(RequestId(4)).unwrap().client, Some(9));
        assert_eq!(questions.next_deadline(), None);
    }
}
