//! A machine that nobody looks after but this: it boots, is saved when its agent is ready, and ends.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::event::Event;

use super::console::ConsoleTail;
use super::error::Error;
use super::machine::{MachineParts, MachineProcess, bind};
use crate::link::Failure;

/// Boots a machine whose socket lies in `folder`, waits until it was saved, and kills it.
///
/// # Errors
/// When it does not get ready in time, ends, or is not saved.
pub(crate) fn save_machine(
    parts: MachineParts,
    folder: &File,
    patience: Duration,
) -> Result<(), Failure> {
    let mut console = ConsoleTail::default();
    let saved = bind(folder)
        .and_then(|listener| MachineProcess::start(parts, listener, || {}))
        .and_then(|machine| await_saved(machine, &mut console, patience));
    saved.map_err(|error| error.into_failure(console.text()))
}

fn await_saved(
    mut machine: MachineProcess,
    console: &mut ConsoleTail,
    patience: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        if !speak_before(&[(machine.events(), PollFlags::IN)], deadline)? {
            return Err(Error::NotReady { seconds: patience.as_secs() });
        }
        match machine.next_event()? {
            Event::Saved => return Ok(()),
            Event::NotSaved(reason) => return Err(Error::NotSaved { reason }),
            Event::Ended(exit) => return Err(Error::from_exit(exit)),
            Event::Console(bytes) => console.add(&bytes),
            Event::Running | Event::AgentReady => {}
        }
    }
}

/// Whether one of these has something to say by then, or takes what it is told.
pub(super) fn speak_before(
    sources: &[(BorrowedFd<'_>, PollFlags)],
    deadline: Instant,
) -> Result<bool, Error> {
    let failed = |source: rustix::io::Errno| Error::System {
        action: "wait for the machine",
        source: source.into(),
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).expect("a patience in seconds");
    let polled = sources.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags));
    let mut polled: Vec<_> = polled.collect();
    let ready = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&left))).map_err(failed)?;
    Ok(ready > 0)
}
