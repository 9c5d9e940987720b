//! The time between two lives of a container: nothing runs, and its clients are served.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clients::{ClientId, Clients, Heard};
use crate::link::{FromSupervisor, ToSupervisor};

/// How the time has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interval {
    /// It is over.
    Over,
    /// Somebody has stopped the container: it stays as it is.
    Stopped,
    /// Somebody has killed it, which comes to the same.
    Killed,
}

/// Waits this long, or until a client wants the container to end.
pub(super) fn wait(clients: &mut Clients, delay: Duration) -> Interval {
    let end = Instant::now() + delay;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Interval::Over;
        }
        let (knocks, speakers) = ready(clients, left);
        if knocks {
            clients.admit();
        }
        for id in speakers {
            if let Some(end) = serve(clients, id) {
                return end;
            }
        }
    }
}

/// Whether somebody wants to come in, and who has something to say.
fn ready(clients: &Clients, left: Duration) -> (bool, Vec<ClientId>) {
    let left = Timespec::try_from(left).expect("a minute at most");
    let sources: Vec<_> = clients.ids().collect();
    let watched = sources.iter().map(|(link, _)| *link).chain(clients.doorway());
    let mut polled: Vec<_> =
        watched.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
    if rustix::io::retry_on_intr(|| poll(&mut polled, Some(&left))).is_err() {
        // For want of memory; the next time there may be some.
        return (false, Vec::new());
    }
    let is_ready = |one: &PollFd<'_>| !one.revents().is_empty();
    let knocks = polled.get(sources.len()).is_some_and(is_ready);
    let speakers = sources.iter().zip(&polled).filter(|(_, one)| is_ready(one));
    (knocks, speakers.map(|((_, id), _)| *id).collect())
}

/// Does what a client wants, as far as that makes sense now.
fn serve(clients: &mut Clients, id: ClientId) -> Option<Interval> {
    match clients.hear(id) {
        Heard::Nothing => {}
        Heard::Gone => drop(clients.remove(id)),
        Heard::Message(message, _) => match message {
            ToSupervisor::Stop { .. } => {
                clients.follow(id);
                return Some(Interval::Stopped);
            }
            ToSupervisor::Signal(_) => return Some(Interval::Killed),
            ToSupervisor::Kill(_) => {
                clients.follow(id);
                clients.tell(id, &FromSupervisor::Done);
                return Some(Interval::Killed);
            }
            ToSupervisor::Wait => clients.follow(id),
            ToSupervisor::Detach => clients.tell(id, &FromSupervisor::Detached),
            ToSupervisor::Attach { .. }
            | ToSupervisor::Exec(_)
            | ToSupervisor::Ask(_)
            | ToSupervisor::Files(_)
            | ToSupervisor::Connect { .. }
            | ToSupervisor::Snapshot(_)
            | ToSupervisor::Disconnect { .. } => {
                let reason = "it is restarting, wait until it is running".to_owned();
                clients.tell(id, &FromSupervisor::Refused(reason));
            }
            ToSupervisor::Hello { .. } | ToSupervisor::Resize(_) | ToSupervisor::Hangup(_) => {}
        },
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Doorway, LINK_VERSION, Link};

    fn scene() -> (tempfile::TempDir, Clients) {
        let folder = tempfile::tempdir().unwrap();
        let open = std::fs::File::open(folder.path()).unwrap();
        let (_, starter) = Link::pair().unwrap();
        let mut clients = Clients::new(starter);
        clients.open(Doorway::open(&open, "door").unwrap());
        (folder, clients)
    }

    fn client(folder: &tempfile::TempDir) -> Link {
        let link = Link::connect(folder.path(), "door").unwrap();
        link.send(&ToSupervisor::Hello { version: LINK_VERSION }).unwrap();
        link
    }

    fn heard(link: &Link) -> FromSupervisor {
        link.receive().unwrap().unwrap().0
    }

    #[test]
    fn it_passes_and_questions_are_refused() {
        let (folder, mut clients) = scene();
        let link = client(&folder);
        link.send(&ToSupervisor::Attach { input: false }).unwrap();
        assert_eq!(wait(&mut clients, Duration::from_millis(50)), Interval::Over);
        assert!(matches!(heard(&link), FromSupervisor::Hello { .. }));
        let FromSupervisor::Refused(reason) = heard(&link) else { panic!("a refusal") };
        assert!(reason.contains("restarting"), "{reason}");
    }

    #[test]
    fn whoever_wants_an_end_gets_it() {
        let stop = ToSupervisor::Stop { signal: 15, patience: Some(10) };
        let kill = ToSupervisor::Kill(9);
        for (message, wanted) in [(stop, Interval::Stopped), (kill, Interval::Killed)] {
            let (folder, mut clients) = scene();
            let link = client(&folder);
            link.send(&message).unwrap();
            assert_eq!(wait(&mut clients, Duration::from_secs(1000)), wanted);
            clients.tell_all(&FromSupervisor::Exited(7));
            let told = std::iter::from_fn(|| Some(heard(&link)));
            let mut told = told.take(3);
            assert!(told.any(|message| message == FromSupervisor::Exited(7)), "{message:?}");
        }
    }
}
