//! Follows a log: what is added is read when it is there, until the container ends.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::read::Take;
use super::{LogQuery, Reader};
use crate::containers::Found;
use crate::control::connect;
use crate::error::Error;
use crate::keeping::LogDriver;
use crate::link::{FromSupervisor, Link, ToSupervisor};

/// Reads what there is of a container's log.
///
/// # Errors
/// When it has none, it cannot be read, or `take` gives an error ([`Error::Output`]).
pub fn read_log(found: &Found, query: LogQuery, take: &mut Take<'_>) -> Result<(), Error> {
    open(found, query)?.read(take).map_err(Error::Output)
}

/// Reads a container's log, and what is added to it, until the container ends or `query.until` has
/// come. `pause` is called when there is nothing more to take for now.
///
/// # Errors
/// As [`read_log`], and when `pause` gives an error.
pub fn follow_log(
    found: &Found,
    query: LogQuery,
    take: &mut Take<'_>,
    pause: &mut dyn FnMut() -> io::Result<()>,
) -> Result<(), Error> {
    let mut reader = open(found, query)?;
    let failed = |source| Error::System { action: "watch the container's log", source };
    // Before anything is read: what comes after that is told of.
    let watch = watch(found.folder()).map_err(failed)?;
    let supervisor = match connect(found) {
        Ok(link) => link.send(&ToSupervisor::Wait).is_ok().then_some(link),
        Err(Error::NotRunning { .. }) => None,
        Err(error) => return Err(error),
    };
    if let Some(link) = supervisor {
        loop {
            reader.read(take).and_then(|()| pause()).map_err(Error::Output)?;
            if !await_more(&watch, &link, query.until.map(|until| until.0)).map_err(failed)? {
                break;
            }
        }
    }
    // The last words were written before the end was told.
    reader.read(take).map_err(Error::Output)
}

fn open(found: &Found, query: LogQuery) -> Result<Reader, Error> {
    match found.record.keeping.log.driver {
        LogDriver::JsonFile => Ok(Reader::open(found.log_path(), query)),
        LogDriver::None => Err(Error::NoLog { name: found.record.name.clone() }),
    }
}

/// Tells of every change in a folder.
pub(crate) fn watch(folder: &Path) -> io::Result<OwnedFd> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags)?;
    let changes = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, folder, changes | inotify::WatchFlags::MOVED_TO)?;
    Ok(watch)
}

/// Waits until something has changed; false when nothing more will.
fn await_more(watch: &OwnedFd, link: &Link, until: Option<SystemTime>) -> io::Result<bool> {
    let left = match until {
        Some(until) => match until.duration_since(SystemTime::now()) {
            Ok(left) => Some(left),
            Err(_) => return Ok(false),
        },
        None => None,
    };
    let longest = Duration::from_secs(1 << 30);
    let left = left.map(|left| left.min(longest));
    let left = left.map(|left| Timespec::try_from(left).expect("34 years at most"));
    let mut sources = [
        PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN),
    ];
    rustix::io::retry_on_intr(|| poll(&mut sources, left.as_ref()))?;
    let [changed, told] = sources.map(|source| !source.revents().is_empty());
    if changed {
        forget(watch)?;
    }
    if !told {
        return Ok(true);
    }
    let end = |message: &FromSupervisor| {
        matches!(message, FromSupervisor::Exited(_) | FromSupervisor::Failed(_))
    };
    Ok(link.receive::<FromSupervisor>()?.is_some_and(|(message, _)| !end(&message)))
}

/// What has changed is of no interest: a log is looked at as a whole.
pub(crate) fn forget(watch: &OwnedFd) -> io::Result<()> {
    let mut events = [MaybeUninit::uninit(); 4096];
    loop {
        match rustix::io::read(watch, &mut events[..]) {
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
