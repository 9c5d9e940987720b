//! Makes the health checks of a container: one process at a time, beside its program, whose end and
//! output are written down where `ps` and `inspect` find them.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use protocol::{ExecSpec, ExitStatus, ProcessId, ProcessSpec, StartError, StreamKind, ToAgent};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::alarms::Alarm;
use super::answers::For;
use super::error::Error;
use super::serve::Supervisor;
use crate::containers::Status;
use crate::health::{CheckResult, Excerpt, Health, HealthCheck};
use crate::link::FromSupervisor;
use crate::moment::Moment;
use crate::signal::SignalNumber;

/// The code of a check that has none of its own.
const NO_CODE: i32 = -1;

/// The checks of a program that runs.
#[derive(Debug)]
pub(super) struct Checks {
    check: HealthCheck,
    command: Vec<Vec<u8>>,
    health: Health,
    current: Option<Check>,
}

/// A check that has begun.
#[derive(Debug)]
struct Check {
    id: ProcessId,
    start: Moment,
    /// What it writes to; those that have ended are gone.
    streams: Vec<UnixStream>,
    output: Excerpt,
    status: Option<ExitStatus>,
}

impl Checks {
    /// Of a program that has just begun; none if nothing is to be checked.
    fn new(check: &HealthCheck) -> Option<Self> {
        let (command, check) = (check.command()?, check.clone());
        Some(Self { check, command, health: Health::default(), current: None })
    }

    /// What the check that is being made writes.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.current.iter().flat_map(|current| current.streams.iter().map(AsFd::as_fd))
    }

    fn is_current(&self, id: ProcessId) -> bool {
        self.current.as_ref().is_some_and(|current| current.id == id)
    }
}

impl Check {
    /// Reads what has come.
    fn read(&mut self) {
        let mut piece = [0; 4096];
        let Self { streams, output, .. } = self;
        streams.retain(|stream| match recv(stream, &mut piece[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => false,
            Ok((count, _)) => {
                output.add(&piece[..count]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        });
    }
}

impl Supervisor<'_> {
    /// The program has begun: from now on it is checked, if it is to be.
    pub(super) fn begin_checks(&mut self) {
        self.checks = self.record.keeping.health.as_ref().and_then(Checks::new);
        if self.checks.is_some() {
            self.write_health();
            self.await_next_check();
        }
    }

    /// It is time for the next check.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        let Some(checks) = &self.checks else { return Ok(()) };
        if self.stands_still() {
            self.await_next_check();
            return Ok(());
        }
        let process = ProcessSpec {
            args: checks.command.clone(),
            terminal: None,
            stdin: false,
            ..self.record.container.process.clone()
        };
        let (patience, kinds) = (checks.check.patience(), super::agent::streams_of(&process));
        let id = ProcessId(self.asked.next());
        self.notes.exec(self.record, id, &process.args);
        let spec = Box::new(ExecSpec { process, detached: false });
        self.tell_agent(ToAgent::Exec { id, spec })?;
        let (output, status, start) = (Excerpt::default(), None, Moment::now());
        let Some(checks) = &mut self.checks else { return Ok(()) };
        checks.current = Some(Check { id, start, streams: Vec::new(), output, status });
        self.alarms.set(Alarm::Checked, patience);
        self.knock_for(For::Check, id, &kinds)
    }

    /// The streams of a check are there, or will not be. Its process begins when it has them.
    pub(super) fn check_connected(
        &mut self,
        id: ProcessId,
        streams: Result<Vec<(StreamKind, UnixStream)>, Error>,
    ) {
        let Some(checks) = self.checks.as_mut().filter(|checks| checks.is_current(id)) else {
            return;
        };
        match (streams, &mut checks.current) {
            (Ok(streams), Some(current)) => {
                current.streams = streams.into_iter().map(|(_, stream)| stream).collect();
            }
            (Ok(_), None) => {}
            (Err(error), _) => self.end_check(NO_CODE, vmm::error::chain(&error)),
        }
    }

    /// The check that is being made has written something, or ended to.
    pub(super) fn hear_check(&mut self) {
        if let Some(current) = self.checks.as_mut().and_then(|checks| checks.current.as_mut()) {
            current.read();
        }
        self.end_whole_check();
    }

    /// Whether the process is a check, which has ended.
    pub(super) fn check_exited(&mut self, id: ProcessId, status: ExitStatus) -> bool {
        let Some(checks) = self.checks.as_mut().filter(|checks| checks.is_current(id)) else {
            return false;
        };
        if let Some(current) = &mut checks.current {
            current.status = Some(status);
        }
        self.end_whole_check();
        true
    }

    /// Whether the process is a check, which could not begin.
    pub(super) fn check_failed(&mut self, id: ProcessId, error: &StartError) -> bool {
        let is_current = self.checks.as_ref().is_some_and(|checks| checks.is_current(id));
        if is_current {
            let failure = Error::Start(error.clone()).into_failure("");
            self.end_check(NO_CODE, failure.message);
        }
        is_current
    }

    /// The check takes too long. That of a program that stands still stands still with it.
    pub(super) fn check_overdue(&mut self) -> Result<(), Error> {
        let Some(checks) = &self.checks else { return Ok(()) };
        let patience = checks.check.patience();
        if self.stands_still() {
            self.alarms.set(Alarm::Checked, patience);
            return Ok(());
        }
        let Some(checks) = &mut self.checks else { return Ok(()) };
        let Some(current) = &mut checks.current else { return Ok(()) };
        let (id, number) = (current.id, SignalNumber::KILL.number());
        let output = std::mem::take(&mut current.output).into_text();
        let colon = if output.is_empty() { "" } else { ": " };
        let patience = in_words(patience);
        let words = format!("Health check exceeded timeout ({patience}){colon}{output}");
        self.end_check(NO_CODE, words);
        self.tell_agent(ToAgent::Signal { id, number })
    }

    /// Whether the program does, or is about to.
    fn stands_still(&self) -> bool {
        self.state.status == Status::Paused || self.snapshot.is_some()
    }

    /// Ends the check once it has a code and all that it wrote is there.
    fn end_whole_check(&mut self) {
        let current = self.checks.as_mut().and_then(|checks| checks.current.as_mut());
        let Some(current) = current.filter(|current| current.streams.is_empty()) else { return };
        if let Some(status) = current.status {
            let output = std::mem::take(&mut current.output).into_text();
            self.end_check(i32::from(status.shell_code()), output);
        }
    }

    fn end_check(&mut self, exit_code: i32, output: String) {
        let Some(checks) = &mut self.checks else { return };
        let Some(Check { start, .. }) = checks.current.take() else { return };
        let result = CheckResult { start, end: Moment::now(), exit_code, output };
        let started = self.state.started.unwrap_or(start);
        if checks.health.note(&checks.check, started, result) {
            let action = format!("health_status: {}", checks.health.status.word());
            self.notes.note(self.record, &action, &[]);
        }
        self.alarms.clear(Alarm::Checked);
        self.write_health();
        self.await_next_check();
    }

    fn await_next_check(&mut self) {
        let Some(checks) = &self.checks else { return };
        let age = self.state.started.map(Moment::age).unwrap_or_default();
        self.alarms.set(Alarm::Check, checks.health.pause(&checks.check, age));
    }

    fn write_health(&mut self) {
        let Some(checks) = &self.checks else { return };
        if let Err(error) = self.home.write_health(&checks.health) {
            let words = vmm::error::chain(&error);
            self.clients.tell_all(&FromSupervisor::Warning(words));
        }
    }
}

/// As Go prints it: `1m30s`, `500ms`, `1.5s`.
fn in_words(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    if seconds == 0 {
        return format!("{millis}ms");
    }
    let fraction = format!(".{millis:03}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let last = format!("{}{fraction}s", seconds % 60);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => last,
        (0, minutes) => format!("{minutes}m{last}"),
        (hours, minutes) => format!("{hours}h{minutes}m{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_gos() {
        for (millis, wanted) in [
            (500, "500ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (30_000, "30s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(in_words(Duration::from_millis(millis)), wanted);
        }
    }
}
