//! Streams that the guest was knocked for, and what is done with them once it has opened.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use protocol::{ProcessId, StreamKind};

use super::alarms::Alarm;
use super::clients::ClientId;
use super::error::Error;
use super::knock::{ANSWER_TIMEOUT, Door, Opening, no_answer};
use super::serve::Supervisor;
use crate::link::FromSupervisor;

/// Who wants the streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// The container: they are those of its own program.
    Container,
    /// A client that has started one more.
    Client(ClientId),
    /// A check of the program's health.
    Check,
}

/// All that was knocked for and has not been answered.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Awaited>);

#[derive(Debug)]
struct Awaited {
    whom: For,
    opening: Opening,
    /// By when it should have been answered; the container's own is a part of its start.
    deadline: Option<Instant>,
}

/// What has become of it.
type Heard = (For, ProcessId, Result<Opening, Error>);

impl Answers {
    fn add(&mut self, whom: For, opening: Opening) {
        let deadline = (whom != For::Container).then(|| Instant::now() + ANSWER_TIMEOUT);
        self.0.push(Awaited { whom, opening, deadline });
    }

    /// Whose answer is waited for.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().flat_map(|awaited| awaited.opening.sources())
    }

    /// Takes those that have been answered or have failed.
    fn take_heard(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        for mut awaited in std::mem::take(&mut self.0) {
            match awaited.opening.hear() {
                Ok(false) => self.0.push(awaited),
                Ok(true) => heard.push((awaited.whom, awaited.opening.id, Ok(awaited.opening))),
                Err(error) => heard.push((awaited.whom, awaited.opening.id, Err(error))),
            }
        }
        heard
    }

    /// Takes those that should have been answered by now.
    fn take_overdue(&mut self) -> Vec<Heard> {
        let now = Instant::now();
        let is_overdue = |awaited: &Awaited| awaited.deadline.is_some_and(|by| by <= now);
        let (overdue, others) = std::mem::take(&mut self.0).into_iter().partition(is_overdue);
        self.0 = others;
        let overdue: Vec<Awaited> = overdue;
        overdue.into_iter().map(|one| (one.whom, one.opening.id, Err(no_answer()))).collect()
    }

    /// Waits for so much longer.
    pub(super) fn postpone(&mut self, time: Duration) {
        self.0
            .iter_mut()
            .filter_map(|awaited| awaited.deadline.as_mut())
            .for_each(|by| *by += time);
    }

    /// The time until somebody should have been answered.
    fn next_deadline(&self) -> Option<Duration> {
        let first = self.0.iter().filter_map(|awaited| awaited.deadline).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }
}

impl Supervisor<'_> {
    /// Knocks for the streams of a process.
    pub(super) fn knock_for(
        &mut self,
        whom: For,
        id: ProcessId,
        kinds: &[StreamKind],
    ) -> Result<(), Error> {
        match Door::new(&self.home.folder).streams(id, kinds) {
            Ok(opening) => {
                self.answers.add(whom, opening);
                // One that needs none has them all.
                self.hear_answers()
            }
            Err(error) => self.opened(whom, id, Err(error)),
        }
    }

    /// The guest has answered somebody.
    pub(super) fn hear_answers(&mut self) -> Result<(), Error> {
        let heard = self.answers.take_heard();
        self.all_opened(heard)
    }

    /// The guest has not answered somebody.
    pub(super) fn answers_overdue(&mut self) -> Result<(), Error> {
        let overdue = self.answers.take_overdue();
        self.all_opened(overdue)
    }

    fn all_opened(&mut self, all: Vec<Heard>) -> Result<(), Error> {
        match self.answers.next_deadline() {
            Some(left) => self.alarms.set(Alarm::Answered, left),
            None => self.alarms.clear(Alarm::Answered),
        }
        all.into_iter().try_for_each(|(whom, id, streams)| self.opened(whom, id, streams))
    }

    /// Hands streams over to whoever wants them, or tells them why there are none.
    fn opened(
        &mut self,
        whom: For,
        id: ProcessId,
        opening: Result<Opening, Error>,
    ) -> Result<(), Error> {
        let streams = opening.map(Opening::finish);
        match whom {
            For::Container => match streams {
                Ok(streams) => self.connected(streams),
                // Its machine may have more to say about that.
                Err(Error::Connect(_)) => {
                    self.agent_hung_up();
                    Ok(())
                }
                Err(error) => Err(error),
            },
            For::Check => {
                self.check_connected(id, streams);
                Ok(())
            }
            For::Client(client) => match streams {
                Ok(streams) => self.hand_over(client, streams),
                Err(error) => {
                    self.asked.forget(id);
                    let reason = vmm::error::chain(&error);
                    self.clients.tell(client, &FromSupervisor::Refused(reason));
                    Ok(())
                }
            },
        }
    }

    fn hand_over(
        &mut self,
        client: ClientId,
        streams: Vec<(StreamKind, UnixStream)>,
    ) -> Result<(), Error> {
        let failed = |source| Error::System { action: "connect the program's streams", source };
        let (mut kinds, mut files) = (Vec::new(), Vec::<OwnedFd>::new());
        for (kind, stream) in streams {
            if kind == StreamKind::Terminal {
                kinds.push(StreamKind::Stdin);
                files.push(stream.try_clone().map_err(failed)?.into());
            }
            kinds.push(kind);
            files.push(stream.into());
        }
        if let Some(client) = self.clients.get(client) {
            // It may be gone by now; the next wait sees it.
            let _ = client.link.try_send_with(&FromSupervisor::Streams(kinds), &files);
        }
        Ok(())
    }
}
