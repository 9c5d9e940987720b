//! What is done to a container that exists: by a word to its supervisor where it runs, by its files
//! where it does not.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use protocol::WindowSize;

use crate::attach::{Attendance, Subject, attach, terminal_size};
use crate::containers::{CONTROL_SOCKET, Containers, Found, Record};
use crate::error::Error;
use crate::events::of_container;
use crate::launch::{Outcome, start};
pub use crate::link::{Afterwards, Taken};
use crate::link::{FromSupervisor, LINK_VERSION, Link, ToSupervisor};
use crate::places::Places;
use crate::signal::SignalNumber;
use crate::spec::ContainerName;
use crate::timings::Stopwatch;

/// What a container is saved as: its machine's state and memory, and the overlay of its writable disk.
pub const SAVED_FILES: [&str; 3] = ["state", "memory", "scratch"];

/// The seconds that `stop` gives a program that asks for no other number, as Docker has it.
const DEFAULT_STOP_TIMEOUT: i64 = 10;

/// How a program is asked to end; what is none is the container's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// The signal it gets first.
    pub signal: Option<SignalNumber>,
    /// The seconds until it is killed; fewer than none waits for ever.
    pub timeout: Option<i64>,
}

/// Whether a container may be removed that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It may not.
    OnlyEnded,
    /// It is killed first.
    Forced,
}

/// Shakes hands with the supervisor of a container that runs.
pub(crate) fn connect(found: &Found) -> Result<Link, Error> {
    let name = &found.record.name;
    let not_running = || Error::NotRunning { name: name.clone() };
    if !found.state.status.is_supervised() {
        return Err(not_running());
    }
    let failed = |source| Error::Supervisor { name: name.clone(), source };
    let link = match Link::connect(found.folder(), CONTROL_SOCKET) {
        Ok(link) => link,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Err(not_running());
        }
        Err(error) => return Err(failed(error)),
    };
    link.send(&ToSupervisor::Hello { version: LINK_VERSION }).map_err(failed)?;
    match link.receive::<FromSupervisor>().map_err(failed)? {
        Some((FromSupervisor::Hello { version: LINK_VERSION }, _)) => Ok(link),
        Some((FromSupervisor::Hello { version }, _)) => {
            let supervisor = found.state.supervisor;
            Err(Error::OtherSupervisor { name: name.clone(), version, supervisor })
        }
        // It ends just now.
        _ => Err(not_running()),
    }
}

/// Whether a container runs under a hyperrun that this one does not understand.
#[must_use]
pub fn is_of_another_version(found: &Found) -> bool {
    matches!(connect(found), Err(Error::OtherSupervisor { .. }))
}

/// Attaches to a container that runs.
///
/// # Errors
/// When there is no such container, it does not run, or its supervisor cannot be reached.
pub fn attach_by_name(
    words: &str,
    places: &Places,
    attendance: &Attendance,
) -> Result<Outcome, Error> {
    let containers = Containers::of(places);
    let found = containers.find(words)?;
    attach_to(&containers, &found, attendance)
}

/// Attaches to this one.
pub(crate) fn attach_to(
    containers: &Containers,
    found: &Found,
    attendance: &Attendance,
) -> Result<Outcome, Error> {
    let link = connect(found)?;
    let input = matches!(attendance, Attendance::Here(presence) if presence.input);
    let name = &found.record.name;
    let failed = |source| Error::Supervisor { name: name.clone(), source };
    link.send(&ToSupervisor::Attach { input }).map_err(failed)?;
    let terminal = found.record.container.process.terminal.is_some();
    if let Some(size) = terminal_size().filter(|_| terminal && input) {
        // The right size follows: a program draws itself anew when its terminal's size changes.
        let other = WindowSize { rows: size.rows.saturating_add(1), ..size };
        link.send(&ToSupervisor::Resize(other)).map_err(failed)?;
    }
    let owns_input = found.record.keeping.input_once;
    let subject = Subject { terminal, owns_output: false, owns_input };
    match attach(link, attendance, subject, Stopwatch::start()) {
        Err(Error::SupervisorDied) => {
            let code = last_code(containers, &found.record.id)?;
            Ok(Outcome { code, clocks: crate::timings::Clocks::default() })
        }
        Err(Error::Denied(reason)) => Err(Error::Refused { name: name.clone(), reason }),
        attached => {
            let attached = attached?;
            Ok(Outcome { code: attached.code, clocks: attached.clocks })
        }
    }
}

/// Asks a program to end, kills it when it does not, and waits for its container's end. One that has
/// ended before is left as it is.
///
/// # Errors
/// When its supervisor cannot be reached.
pub fn stop(containers: &Containers, found: &Found, stop: Stop) -> Result<(), Error> {
    let keeping = &found.record.keeping;
    let signal = stop.signal.or(keeping.stop_signal).unwrap_or(SignalNumber::TERM);
    let timeout = stop.timeout.or(keeping.stop_timeout).unwrap_or(DEFAULT_STOP_TIMEOUT);
    let link = match connect(found) {
        Err(Error::NotRunning { .. }) => return Ok(()),
        link => link?,
    };
    let patience = u64::try_from(timeout).ok();
    let message = ToSupervisor::Stop { signal: signal.number(), patience };
    ask(&link, found, &message)?;
    await_end(&link, containers, &found.record.id).map(drop)
}

/// Sends a program a signal; waits for the end of one that is killed.
///
/// # Errors
/// When the container does not run, or its supervisor cannot be reached.
pub fn kill(containers: &Containers, found: &Found, signal: SignalNumber) -> Result<(), Error> {
    let link = connect(found)?;
    ask(&link, found, &ToSupervisor::Kill(signal.number()))?;
    if signal != SignalNumber::KILL {
        return await_done(&link, found);
    }
    // One that was about to be started again has ended already, and its supervisor may be gone.
    let _ = link.send(&ToSupervisor::Wait);
    await_end(&link, containers, &found.record.id).map(drop)
}

/// Waits for the end of a container; the code of its program. One that does not run has ended.
///
/// # Errors
/// When its supervisor cannot be reached.
pub fn wait(containers: &Containers, found: &Found) -> Result<u8, Error> {
    match connect(found) {
        Err(Error::NotRunning { .. }) => last_code(containers, &found.record.id),
        link => {
            let link = link?;
            ask(&link, found, &ToSupervisor::Wait)?;
            await_end(&link, containers, &found.record.id)
        }
    }
}

/// Removes a container.
///
/// # Errors
/// When it runs, unless that is no matter, or its folder cannot be removed.
pub fn remove(containers: &Containers, found: &Found, removal: Removal) -> Result<(), Error> {
    if removal == Removal::Forced && found.state.status.is_supervised() {
        match kill(containers, found, SignalNumber::KILL) {
            Ok(()) | Err(Error::NotRunning { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match containers.remove(&found.record.id) {
        // One that was to be removed at its end is gone by now.
        Err(Error::UnknownContainer { .. }) if removal == Removal::Forced => return Ok(()),
        removed => removed?,
    }
    containers.events().add(&[of_container(&found.record, "destroy", &[])]);
    Ok(())
}

/// Saves a container that runs into the files of these names in a folder, [`SAVED_FILES`], which are there
/// and empty; with the files of a `parent`, no more than what differs from that, if it is of use. They are written
/// when this returns, and not synced. One that is to stop has ended then.
///
/// # Errors
/// When it does not run, its supervisor cannot be reached, or a file cannot be written; it goes on then.
pub fn take_snapshot(
    containers: &Containers,
    found: &Found,
    folder: &Path,
    parent: Vec<OwnedFd>,
    afterwards: Afterwards,
) -> Result<Taken, Error> {
    let open = |name: &str| {
        let path = folder.join(name);
        let file = File::options().read(true).write(true).open(&path);
        file.map(OwnedFd::from).map_err(|source| Error::File { action: "open", path, source })
    };
    let mut files = SAVED_FILES.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    files.extend(parent);
    let link = connect(found)?;
    let name = || found.record.name.clone();
    let sent = link.send_with(&ToSupervisor::Snapshot(afterwards), &files);
    sent.map_err(|source| Error::Supervisor { name: name(), source })?;
    let taken = loop {
        match link.receive::<FromSupervisor>() {
            Ok(Some((FromSupervisor::Saved(taken), _))) => break taken,
            Ok(Some((FromSupervisor::Refused(reason), _))) => {
                return Err(Error::Refused { name: name(), reason });
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err(Error::NotRunning { name: name() }),
            Err(source) => return Err(Error::Supervisor { name: name(), source }),
        }
    };
    if afterwards == Afterwards::Stop {
        await_end(&link, containers, &found.record.id)?;
    }
    Ok(taken)
}

/// Stops a container and starts it again; one that does not run is started. To be called while this
/// process has one thread.
///
/// # Errors
/// When its supervisor cannot be reached, or it cannot be started.
pub fn restart(found: &Found, places: &Places, how: Stop, debug: bool) -> Result<(), Error> {
    let containers = Containers::of(places);
    stop(&containers, found, how)?;
    start(&found.record.id, places, &Attendance::Away, debug)?;
    containers.events().add(&[of_container(&found.record, "restart", &[])]);
    Ok(())
}

/// Gives a container another name, which no other has.
///
/// # Errors
/// When the name is in use, or cannot be written down.
pub fn rename(containers: &Containers, words: &str, name: &ContainerName) -> Result<(), Error> {
    let before = containers.register()?.rename(words, name)?;
    containers.networks().rename(&before, name.as_str())?;
    let old = format!("/{}", before.name);
    let record = Record { name: name.to_string(), ..before };
    containers.events().add(&[of_container(&record, "rename", &[("oldName", &old)])]);
    Ok(())
}

fn ask(link: &Link, found: &Found, message: &ToSupervisor) -> Result<(), Error> {
    let name = found.record.name.clone();
    link.send(message).map_err(|source| Error::Supervisor { name, source })
}

/// Waits until a supervisor says that it has done what it was asked for.
fn await_done(link: &Link, found: &Found) -> Result<(), Error> {
    let name = || found.record.name.clone();
    loop {
        match link.receive::<FromSupervisor>() {
            Ok(Some((FromSupervisor::Done, _))) => return Ok(()),
            Ok(Some((FromSupervisor::Refused(reason), _))) => {
                return Err(Error::Refused { name: name(), reason });
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err(Error::NotRunning { name: name() }),
            Err(source) => return Err(Error::Supervisor { name: name(), source }),
        }
    }
}

/// Waits until a supervisor says that its container has ended, or is gone.
fn await_end(link: &Link, containers: &Containers, id: &str) -> Result<u8, Error> {
    loop {
        match link.receive::<FromSupervisor>() {
            Ok(Some((FromSupervisor::Exited(code), _))) => return Ok(code),
            Ok(Some((FromSupervisor::Failed(failure), _))) => return Ok(failure.code),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return last_code(containers, id),
        }
    }
}

/// The code that a container has ended with; 0 for one that is gone.
fn last_code(containers: &Containers, id: &str) -> Result<u8, Error> {
    Ok(containers.look_again(id)?.map_or(0, |found| found.state.exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::{State, Status, sample};
    use crate::link::Doorway;

    #[test]
    fn a_supervisor_of_another_version_is_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let folder = File::open(home.path()).unwrap();
        let state = State { supervisor: Some(77), ..State::new(Status::Running) };
        let found = Found::new(sample("a", "web"), state, home.path());
        assert!(matches!(connect(&found), Err(Error::NotRunning { .. })));
        let doorway = Doorway::open(&folder, CONTROL_SOCKET).unwrap();
        for (version, other) in [(LINK_VERSION + 1, true), (LINK_VERSION, false), (0, true)] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let link = doorway.accept().unwrap();
                    let hello = link.receive::<ToSupervisor>().unwrap().unwrap().0;
                    assert_eq!(hello, ToSupervisor::Hello { version: LINK_VERSION });
                    link.send(&FromSupervisor::Hello { version }).unwrap();
                });
                assert_eq!(is_of_another_version(&found), other, "{version}");
            });
        }
        let name = "web".to_owned();
        let error = Error::OtherSupervisor { name, version: 9, supervisor: Some(77) };
        assert!(error.hint().unwrap().contains("`kill 77`, then `hyperrun start web`"));
    }
}
