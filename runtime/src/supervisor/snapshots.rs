//! A snapshot of the container: its machine is saved while it lives. First what needs no pause is written,
//! then the container stands still, then its machine, whose rest is written, and both go on. So they do as well
//! when something fails on the way.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use protocol::{Answer, ExecSpec, Question, WindowSize};
use vmm::config::SnapshotFiles;
use vmm::event::LiveSave;
use vmm::order::{AfterSave, Order, PageFiles, Parent, SaveFiles};

use super::alarms::Alarm;
use super::clients::ClientId;
use super::error::Error;
use super::knock::{ANSWER_TIMEOUT, no_answer};
use super::serve::{Stage, Supervisor};
use crate::link::{Afterwards, FromSupervisor, Taken};

/// How long a container may take to stand still, or to go on.
const STILLNESS: Duration = Duration::from_secs(10);

/// One that is being taken.
#[derive(Debug)]
pub(super) struct Snapshot {
    client: ClientId,
    afterwards: Afterwards,
    step: Step,
    /// When the container was told to stand still.
    since: Instant,
    waiting: Waiting,
}

/// What was to be started meanwhile, and by whom.
#[derive(Debug, Default)]
struct Waiting(Vec<(ClientId, ExecSpec)>);

impl Waiting {
    /// What a client is to start begins with a terminal of this size, if it has one.
    fn resize(&mut self, client: ClientId, size: WindowSize) {
        let specs = self.0.iter_mut().filter(|(waiting, _)| *waiting == client);
        let terminals = specs.filter_map(|(_, spec)| spec.process.terminal.as_mut());
        terminals.for_each(|terminal| *terminal = size);
    }
}

/// How far it is.
#[derive(Debug)]
enum Step {
    /// What needs no pause is being written.
    Beginning,
    /// The container is to stand still.
    Suspending,
    /// The rest is being written.
    Saving,
    /// The container is to go on: so many bytes were written, or why it was not saved.
    Resuming(Result<u64, String>),
}

impl Supervisor<'_> {
    /// Begins one for a client, in these files.
    pub(super) fn take_snapshot(
        &mut self,
        client: ClientId,
        afterwards: Afterwards,
        files: Vec<OwnedFd>,
    ) {
        let begun = match (self.stage, &self.snapshot) {
            (Stage::Running, None) => self.begin_snapshot(files),
            (Stage::Running, Some(_)) => Err("a snapshot of it is being taken".to_owned()),
            _ => Err("it is not running".to_owned()),
        };
        match begun {
            Ok(()) => {
                let (step, since) = (Step::Beginning, Instant::now());
                let waiting = Waiting::default();
                self.snapshot = Some(Snapshot { client, afterwards, step, since, waiting });
                if afterwards == Afterwards::Stop {
                    self.clients.follow(client);
                }
            }
            Err(reason) => self.clients.tell(client, &FromSupervisor::Refused(reason)),
        }
    }

    fn begin_snapshot(&mut self, files: Vec<OwnedFd>) -> Result<(), String> {
        let pages = PageFiles::of(self.machine.pid().cast_unsigned());
        let pages = pages.map_err(|error| format!("its memory cannot be looked at: {error}"))?;
        let files = save_files(files, pages).ok_or("files are missing with the message")?;
        let ordered = self.machine.order(Order::BeginSave(files));
        ordered.map_err(|error| vmm::error::chain(&error))
    }

    /// The machine has come further with it.
    pub(super) fn hear_of_snapshot(&mut self, step: LiveSave) -> Result<(), Error> {
        let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
        if matches!(snapshot.step, Step::Saving) {
            let stood_still = snapshot.since.elapsed();
            self.questions.postpone(stood_still);
            self.answers.postpone(stood_still);
            self.asked.postpone(stood_still);
        }
        let outcome = match step {
            LiveSave::Begun => {
                (snapshot.step, snapshot.since) = (Step::Suspending, Instant::now());
                self.alarms.set(Alarm::Stilled, STILLNESS);
                return self.ask_for(None, Question::Suspend);
            }
            LiveSave::Saved { written } => Ok(written),
            LiveSave::Failed(reason) => Err(reason),
        };
        match outcome {
            Err(reason) if matches!(snapshot.step, Step::Beginning) => {
                self.end_snapshot(Err(reason))
            }
            Ok(written) if snapshot.afterwards == Afterwards::Stop => {
                for (client, _) in std::mem::take(&mut snapshot.waiting).0 {
                    let reason = "it is not running".to_owned();
                    self.clients.tell(client, &FromSupervisor::Refused(reason));
                }
                self.end_snapshot(Ok(written))?;
                self.cut_off();
                Ok(())
            }
            outcome => {
                snapshot.step = Step::Resuming(outcome);
                self.alarms.set(Alarm::Stilled, STILLNESS);
                self.ask_for(None, Question::Resume)
            }
        }
    }

    /// The container stands still, or will not.
    pub(super) fn suspended(&mut self, answer: &Answer) -> Result<(), Error> {
        let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
        if !matches!(snapshot.step, Step::Suspending) {
            return Ok(());
        }
        self.alarms.clear(Alarm::Stilled);
        if let Answer::Failed { message } = answer {
            let reason = message.clone();
            let _gone = self.machine.order(Order::AbandonSave);
            return self.end_snapshot(Err(reason));
        }
        if self.clients.get(snapshot.client).is_none() {
            // Nobody is left to keep it.
            snapshot.afterwards = Afterwards::GoOn;
        }
        let after = match snapshot.afterwards {
            Afterwards::GoOn => AfterSave::GoOn,
            Afterwards::Stop => AfterSave::End,
        };
        snapshot.step = Step::Saving;
        match self.machine.order(Order::Save(after)) {
            Ok(()) => Ok(()),
            Err(error) => self.hear_of_snapshot(LiveSave::Failed(vmm::error::chain(&error))),
        }
    }

    /// Sets an alarm of what is waited for in the machine again while that is being written: nobody in it can
    /// answer or end now. Whether it did.
    pub(super) fn puts_off(&mut self, alarm: Alarm) -> bool {
        use Alarm::{Answered, Begun, Killed, Replied, Stopped};
        let is_written = |snapshot: &Snapshot| matches!(snapshot.step, Step::Saving);
        let stands_still = matches!(alarm, Answered | Begun | Killed | Replied | Stopped)
            && self.snapshot.as_ref().is_some_and(is_written);
        if stands_still {
            self.alarms.set(alarm, ANSWER_TIMEOUT);
        }
        stands_still
    }

    /// The container goes on.
    pub(super) fn resumed(&mut self) -> Result<(), Error> {
        let Some(Snapshot { step: Step::Resuming(outcome), .. }) = &mut self.snapshot else {
            return Ok(());
        };
        let outcome = std::mem::replace(outcome, Ok(0));
        self.end_snapshot(outcome)
    }

    /// Keeps for later what is to be started in a container that stands still to be saved; gives it back
    /// where none does.
    pub(super) fn keep_for_later(&mut self, client: ClientId, spec: ExecSpec) -> Option<ExecSpec> {
        let stands_still = |snapshot: &&mut Snapshot| !matches!(snapshot.step, Step::Beginning);
        let Some(snapshot) = self.snapshot.as_mut().filter(stands_still) else { return Some(spec) };
        snapshot.waiting.0.push((client, spec));
        None
    }

    /// The terminal of what a client is to start later has another size now.
    pub(super) fn resize_waiting(&mut self, client: ClientId, size: WindowSize) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.waiting.resize(client, size);
        }
    }

    /// The agent has not done what it should have.
    pub(super) fn snapshot_overdue(&mut self) -> Result<(), Error> {
        let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
        match std::mem::replace(&mut snapshot.step, Step::Saving) {
            Step::Suspending => {
                let _gone = self.machine.order(Order::AbandonSave);
                self.ask_for(None, Question::Resume)?;
                self.end_snapshot(Err(vmm::error::chain(&no_answer())))
            }
            Step::Resuming(outcome) => self.end_snapshot(outcome),
            step @ (Step::Beginning | Step::Saving) => {
                snapshot.step = step;
                Ok(())
            }
        }
    }

    fn end_snapshot(&mut self, outcome: Result<u64, String>) -> Result<(), Error> {
        self.alarms.clear(Alarm::Stilled);
        let Some(Snapshot { client, since, waiting, .. }) = self.snapshot.take() else {
            return Ok(());
        };
        let message = match outcome {
            Ok(written) => FromSupervisor::Saved(Taken { pause: since.elapsed(), written }),
            Err(reason) => FromSupervisor::Refused(reason),
        };
        self.clients.tell(client, &message);
        for (client, spec) in waiting.0 {
            // Whoever has gone wants nothing any more.
            if self.clients.get(client).is_some() {
                self.exec(client, spec)?;
            }
        }
        Ok(())
    }
}

/// The files of a message: what is to be filled, then those of a parent, if there is one: its state, and as
/// many files of its memory as of its disk.
fn save_files(files: Vec<OwnedFd>, pages: PageFiles) -> Option<SaveFiles> {
    let mut files = files.into_iter().map(File::from);
    let machine = SnapshotFiles::new(files.next()?, files.next()?);
    let overlays = vec![files.next()?];
    let parent = files.next().map(|state| {
        let mut memory: Vec<File> = files.collect();
        let overlay = memory.split_off(memory.len() / 2);
        Parent { state, memory, overlays: vec![overlay] }
    });
    Some(SaveFiles { machine, overlays, parent, pages })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::sample;
    use protocol::ProcessSpec;

    #[test]
    fn what_waits_begins_with_the_last_size_of_its_terminal() {
        let process = sample(&"a".repeat(64), "web").container.process;
        let size = |rows| WindowSize { rows, columns: 80 };
        let spec = |terminal| {
            let process = ProcessSpec { terminal, ..process.clone() };
            ExecSpec { process, detached: false }
        };
        let specs = [Some(size(24)), Some(size(24)), None].map(spec);
        let mut waiting = Waiting((1..).zip(specs).collect());
        for client in [2, 3, 4] {
            waiting.resize(client, size(50));
        }
        let terminals: Vec<_> = waiting.0.iter().map(|(_, spec)| spec.process.terminal).collect();
        assert_eq!(terminals, [Some(size(24)), Some(size(50)), None]);
    }
}
