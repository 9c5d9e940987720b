//! Commands and output that are waited for, but not for ever: an emulated KVM stops a guest at times,
//! and whoever waits for a measurement wants to hear of it.

use std::error::Error;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long anything may take that is not known to be long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// How long a process may take to end that was killed.
const DEATH: Duration = Duration::from_secs(5);

/// A moment at which waiting ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    begin: Instant,
    patience: Duration,
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(patience: Duration) -> Self {
        Self { begin: Instant::now(), patience }
    }

    /// Waits until there is something to read, or its end.
    ///
    /// # Errors
    /// `TimedOut` when the moment has come.
    pub(crate) fn await_readable(&self, source: &impl AsFd) -> io::Result<()> {
        let left = self.patience.saturating_sub(self.begin.elapsed());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let ready = rustix::io::retry_on_intr(|| {
            poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&left))
        })?;
        if ready > 0 {
            return Ok(());
        }
        let words = format!("nothing came, {} s after it began", self.patience.as_secs());
        Err(io::Error::new(ErrorKind::TimedOut, words))
    }
}

/// Reads until a moment.
#[derive(Debug)]
pub(crate) struct Patient<R> {
    source: R,
    pub(crate) deadline: Deadline,
}

impl<R: Read + AsFd> Patient<R> {
    /// Reads from `source` as long as it takes `patience`.
    pub(crate) fn new(source: R, patience: Duration) -> Self {
        Self { source, deadline: Deadline::after(patience) }
    }

    /// What is read from.
    pub(crate) fn source(&self) -> &R {
        &self.source
    }
}

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        self.deadline.await_readable(&self.source)?;
        self.source.read(piece)
    }
}

/// Waits for the end of a command that must not fail.
///
/// # Errors
/// When it does, with its words; when it takes longer than [`PATIENCE`], and is killed.
pub(crate) fn run_to_end(command: &mut Command) -> Result<(), Box<dyn Error>> {
    output_within(command, PATIENCE).map(drop)
}

/// What a command that must not fail writes, up to as much as a pipe holds.
///
/// # Errors
/// As [`run_to_end`].
pub(crate) fn output_of(command: &mut Command) -> Result<Vec<u8>, Box<dyn Error>> {
    output_within(command, PATIENCE)
}

/// [`output_of`] a command that may take so long.
///
/// # Errors
/// As [`run_to_end`].
pub(crate) fn output_within(
    command: &mut Command,
    patience: Duration,
) -> Result<Vec<u8>, Box<dyn Error>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let status =
        await_end(&mut child, patience).map_err(|error| format!("{command:?}: {error}"))?;
    let output = what_is_there(child.stdout.take().expect("it was piped"))?;
    if status.success() {
        return Ok(output);
    }
    let words = what_is_there(child.stderr.take().expect("it was piped"))?;
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&words)).into())
}

/// Waits for the end of a process, and kills it when that takes too long.
///
/// # Errors
/// When it was killed.
pub(crate) fn await_end(child: &mut Child, patience: Duration) -> io::Result<ExitStatus> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let ended = Deadline::after(patience).await_readable(&process);
    if ended.is_err() {
        child.kill()?;
        // One that cannot even be killed is left to itself.
        Deadline::after(DEATH).await_readable(&process)?;
    }
    let status = child.wait()?;
    let words = || format!("it was killed, since it had not ended after {} s", patience.as_secs());
    ended.map(|()| status).map_err(|_| io::Error::new(ErrorKind::TimedOut, words()))
}

/// What a pipe holds; others may have it open for writing.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn what_is_there(mut pipe: impl Read + AsFd) -> io::Result<Vec<u8>> {
    fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    let mut bytes = Vec::new();
    match pipe.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_is_waited_for_and_not_those_it_leaves_behind() {
        let left = output_of(&mut shell("sleep 60 & echo $!")).unwrap();
        let left = String::from_utf8(left).unwrap();
        assert!(output_of(Command::new("kill").arg(left.trim())).is_ok());
        let failed = output_of(&mut shell("echo why >&2; exit 3")).unwrap_err().to_string();
        assert!(failed.ends_with("failed: why\n"), "{failed}");
    }

    #[test]
    fn what_hangs_is_killed_and_named() {
        let mut child = shell("exec sleep 60").spawn().unwrap();
        let error = await_end(&mut child, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!child.wait().unwrap().success());
        let (reading, _writing) = io::pipe().unwrap();
        let mut patient = Patient::new(reading, Duration::ZERO);
        assert_eq!(patient.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
