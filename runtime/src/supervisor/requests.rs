//! What clients want of a supervisor.

use std::os::fd::OwnedFd;
use std::time::Duration;

use protocol::{ProcessId, ToAgent};

use super::Attachment;
use super::alarms::Alarm;
use super::clients::{ClientId, Heard, STARTER};
use super::error::Error;
use super::serve::{Stage, Supervisor};
use crate::keeping::RestartPolicy;
use crate::link::{FromSupervisor, ToSupervisor};
use crate::signal::SignalNumber;

/// How long whoever is attached may take to read what a killed program has written.
const DRAIN: Duration = Duration::from_secs(2);
/// How long an agent may take to tell that a program was killed.
const KILL: Duration = Duration::from_secs(10);

impl Supervisor<'_> {
    pub(super) fn hear_client(&mut self, id: ClientId) -> Result<(), Error> {
        match self.clients.hear(id) {
            Heard::Nothing => Ok(()),
            Heard::Message(message, files) => self.obey(id, message, files),
            Heard::Gone => self.leave(id),
        }
    }

    fn obey(
        &mut self,
        id: ClientId,
        message: ToSupervisor,
        files: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        match message {
            ToSupervisor::Hello { .. } => Ok(()),
            ToSupervisor::Attach { input } => {
                self.attach(id, if input { Attachment::Both } else { Attachment::Output })?;
                if self.stage == Stage::Running {
                    self.clients.tell(id, &FromSupervisor::Started);
                }
                Ok(())
            }
            ToSupervisor::Resize(size) => self.resize(id, size),
            ToSupervisor::Signal(number) => self.signal_by_hand(number),
            ToSupervisor::Kill(number) => {
                self.signal_by_hand(number)?;
                self.clients.tell(id, &FromSupervisor::Done);
                Ok(())
            }
            ToSupervisor::Hangup(kind) => {
                self.outputs.hang_up(kind);
                Ok(())
            }
            ToSupervisor::Detach => {
                self.outputs.detach(id);
                self.note("detach", &[]);
                if let Some(client) = self.clients.get(id) {
                    client.input = false;
                }
                self.clients.tell(id, &FromSupervisor::Detached);
                Ok(())
            }
            ToSupervisor::Stop { signal, patience } => {
                self.clients.follow(id);
                self.stopped_by_hand();
                self.notes.stop_asked = true;
                self.note("kill", &[("signal", &signal.to_string())]);
                self.thaw()?;
                self.tell_own(signal)?;
                if signal == SignalNumber::KILL.number() {
                    return self.kill_program();
                }
                if let Some(seconds) = patience {
                    self.alarms.set(Alarm::Stopped, Duration::from_secs(seconds));
                }
                Ok(())
            }
            ToSupervisor::Wait => {
                self.clients.follow(id);
                Ok(())
            }
            ToSupervisor::Exec(spec) => self.exec(id, *spec),
            ToSupervisor::Ask(question) => self.ask(id, question),
            ToSupervisor::Files(job) => self.files(id, job),
            ToSupervisor::Connect { interface, resolver } => {
                self.connect(id, (*interface, resolver), files)
            }
            ToSupervisor::Disconnect { mac } => self.disconnect(id, mac),
            ToSupervisor::Snapshot(afterwards) => {
                self.take_snapshot(id, afterwards, files);
                Ok(())
            }
        }
    }

    /// A client that has gone takes its part of the streams along. When the one that has started the
    /// container goes before there is a program, there will be none.
    fn leave(&mut self, id: ClientId) -> Result<(), Error> {
        self.outputs.detach(id);
        if self.clients.remove(id).is_some_and(|client| client.input) {
            self.end_input();
        }
        match self.stage {
            Stage::Booting | Stage::Starting if id == STARTER => Err(Error::Abandoned),
            _ => Ok(()),
        }
    }

    /// A person's signal: where the container has a signal of its own to be stopped by, only that and
    /// SIGKILL say that it shall stay as it is when it has ended, else any, as with Docker.
    fn signal_by_hand(&mut self, number: i32) -> Result<(), Error> {
        let own = self.record.keeping.stop_signal.map(SignalNumber::number);
        if number == SignalNumber::KILL.number() || own.is_none_or(|own| own == number) {
            self.stopped_by_hand();
        }
        self.note("kill", &[("signal", &number.to_string())]);
        self.signal(number)
    }

    /// Whatever its policy, the container is not started again by itself.
    fn stopped_by_hand(&mut self) {
        let was_stopped = std::mem::replace(&mut self.state.stopped, true);
        let matters = self.record.keeping.restart != RestartPolicy::No && !was_stopped;
        if matters && self.stage == Stage::Running {
            // Not even when this supervisor is killed before the end.
            self.enter(self.state.status);
        }
    }

    fn signal(&mut self, number: i32) -> Result<(), Error> {
        if number == SignalNumber::KILL.number() {
            return self.kill_program();
        }
        self.tell_own(number)
    }

    /// Nothing survives this: not a program that ignores signals, not an agent that hangs.
    pub(super) fn kill_program(&mut self) -> Result<(), Error> {
        self.thaw()?;
        self.alarms.set(Alarm::Drained, DRAIN);
        self.alarms.set(Alarm::Killed, KILL);
        self.tell_own(SignalNumber::KILL.number())
    }

    fn tell_own(&mut self, number: i32) -> Result<(), Error> {
        self.tell_agent(ToAgent::Signal { id: ProcessId::OWN, number })
    }
}
