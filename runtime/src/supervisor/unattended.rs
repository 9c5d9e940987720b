//! A machine that nobody looks after but this: it boots, is saved when its agent is ready or has prepared
//! an image, and ends.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use protocol::{FromAgent, Preparation, ToAgent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::event::Event;

use super::agent::{Agent, has_said};
use super::console::ConsoleTail;
use super::error::Error;
use super::knock::Door;
use super::machine::{MachineParts, MachineProcess, bind};
use crate::link::Failure;

/// Boots a machine whose socket lies in `folder`, has it prepare an image if it shall, waits until it was
/// saved, and kills it.
///
/// # Errors
/// When it does not get ready in time, ends, cannot prepare the image, or is not saved.
pub(crate) fn save_machine(
    parts: MachineParts,
    folder: &File,
    preparation: Option<&Preparation>,
    patience: Duration,
) -> Result<(), Failure> {
    let mut console = ConsoleTail::default();
    let prepare =
        || preparation.map_or(Ok(()), |preparation| prepare(folder, preparation, patience));
    let saved = bind(folder)
        .and_then(|listener| MachineProcess::start(parts, listener, || {}))
        .and_then(|machine| await_saved(machine, &mut console, prepare, patience));
    saved.map_err(|error| error.into_failure(console.text()))
}

/// Has an agent that is ready prepare an image, and hangs up.
fn prepare(folder: &File, preparation: &Preparation, patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    let mut agent = Agent::call(&Door::new(folder))?;
    agent.tell(&ToAgent::Prepare(Box::new(preparation.clone())))?;
    while speak_before(&[agent.control()], deadline)? {
        if has_said(agent.listen()?.ok_or(Error::AgentGone)?, &FromAgent::Prepared)? {
            return Ok(());
        }
    }
    Err(Error::NotReady { seconds: patience.as_secs() })
}

fn await_saved(
    mut machine: MachineProcess,
    console: &mut ConsoleTail,
    prepare: impl Fn() -> Result<(), Error>,
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
            Event::AgentReady => prepare()?,
            Event::Running | Event::Interface { .. } | Event::Live(_) => {}
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread;

    use protocol::{Device, StartError};

    use super::*;
    use crate::containers::MACHINE_SOCKET;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// What comes of preparing with an agent that says these words when it is asked, and hangs up.
    fn prepared_by(say: impl FnOnce(&mut UnixStream) + Send) -> Result<(), Error> {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(MACHINE_SOCKET)).unwrap();
        let opened = File::open(folder.path()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = [0; b"CONNECT 1024\n".len()];
                stream.read_exact(&mut line).unwrap();
                stream.write_all(b"OK 1\n").unwrap();
                say(&mut stream);
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let preparation = Preparation {
                image_disk: Device { index: 0 },
                scratch_disk: Device { index: 1 },
                shm_bytes: 1,
                program: Vec::new(),
                path: Vec::new(),
            };
            prepare(&opened, &preparation, PATIENCE)
        })
    }

    #[test]
    fn only_an_agent_that_is_done_has_prepared_an_image() {
        let hello = FromAgent::Hello { version: protocol::VERSION };
        let said = |messages: Vec<FromAgent>| {
            prepared_by(move |stream| {
                messages.iter().for_each(|message| protocol::write(stream, message).unwrap());
            })
        };
        let trouble = FromAgent::Trouble { message: "t".to_owned() };
        assert!(said(vec![hello.clone(), trouble, FromAgent::Prepared]).is_ok());
        assert!(matches!(said(vec![hello.clone()]), Err(Error::AgentGone)));
        let other = FromAgent::Hello { version: 1 };
        assert!(matches!(said(vec![other]), Err(Error::Version { version: 1 })));
        let id = protocol::ProcessId::OWN;
        let error = StartError::Setup { message: "no".to_owned() };
        let failed = FromAgent::StartFailed { id, error };
        assert!(matches!(said(vec![hello, failed]), Err(Error::Start(_))));
        let nonsense = prepared_by(|stream| stream.write_all(&[0xff; 9]).unwrap());
        assert!(matches!(nonsense, Err(Error::Agent(_))));
    }
}
