//! Everybody who talks to a supervisor: the one that has started it, and those who come in by its
//! socket. None of them can hold it up: who does not read is left out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::link::{Doorway, FromSupervisor, LINK_VERSION, Link, ToSupervisor};

/// A client's number; none is given twice.
pub(super) type ClientId = u32;

/// The number of the one that has started the supervisor.
pub(super) const STARTER: ClientId = 0;

/// The most clients at a time.
const MAX_CLIENTS: usize = 256;

/// Somebody who talks to the supervisor.
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) link: Link,
    /// Whether it has said which version it speaks.
    greeted: bool,
    /// Whether it has wanted anything yet.
    has_asked: bool,
    /// Whether it wants to know what happens.
    pub(super) follows: bool,
    /// Whether it writes the program's input.
    pub(super) input: bool,
    /// Whether it has wanted a process beside the container's own.
    pub(super) has_process: bool,
}

/// All of them.
pub(super) struct Clients {
    doorway: Option<Doorway>,
    all: Vec<Client>,
    next: ClientId,
}

/// What was heard of a client.
pub(super) enum Heard {
    /// It wants something.
    Message(ToSupervisor, Vec<OwnedFd>),
    /// Nothing that matters.
    Nothing,
    /// It has closed its end.
    Gone,
}

impl Client {
    fn new(id: ClientId, link: Link) -> Self {
        let (greeted, has_asked, follows) = (false, false, false);
        Self { id, link, greeted, has_asked, follows, input: false, has_process: false }
    }
}

impl Clients {
    /// The starter alone.
    pub(super) fn new(starter: Link) -> Self {
        let mut client = Client::new(STARTER, starter);
        (client.greeted, client.has_asked, client.follows) = (true, true, true);
        Self { doorway: None, all: vec![client], next: STARTER + 1 }
    }

    /// From now on others can come in.
    pub(super) fn open(&mut self, doorway: Doorway) {
        self.doorway = Some(doorway);
    }

    /// Who is there.
    pub(super) fn ids(&self) -> impl Iterator<Item = (BorrowedFd<'_>, ClientId)> {
        self.all.iter().map(|client| (client.link.as_fd(), client.id))
    }

    /// Where others come in, unless there are too many already.
    pub(super) fn doorway(&self) -> Option<BorrowedFd<'_>> {
        self.doorway.as_ref().filter(|_| self.all.len() < MAX_CLIENTS).map(AsFd::as_fd)
    }

    /// Lets in whoever has knocked.
    pub(super) fn admit(&mut self) {
        let Some(link) = self.doorway.as_ref().and_then(Doorway::accept) else { return };
        let id = self.next;
        self.next += 1;
        self.all.push(Client::new(id, link));
    }

    /// The client of this number, if it is still there.
    pub(super) fn get(&mut self, id: ClientId) -> Option<&mut Client> {
        self.all.iter_mut().find(|client| client.id == id)
    }

    /// Hears a client that has something to say. One that does not know the manners is gone.
    pub(super) fn hear(&mut self, id: ClientId) -> Heard {
        let Some(client) = self.get(id) else { return Heard::Nothing };
        let Ok(Some((message, files))) = client.link.receive::<ToSupervisor>() else {
            return Heard::Gone;
        };
        match message {
            ToSupervisor::Hello { version } => {
                client.greeted = version == LINK_VERSION;
                let hello = FromSupervisor::Hello { version: LINK_VERSION };
                let told = client.link.try_send(&hello);
                if client.greeted && told.is_ok() { Heard::Nothing } else { Heard::Gone }
            }
            message if client.greeted => {
                client.has_asked = true;
                Heard::Message(message, files)
            }
            _ => Heard::Gone,
        }
    }

    /// Forgets a client.
    pub(super) fn remove(&mut self, id: ClientId) -> Option<Client> {
        let at = self.all.iter().position(|client| client.id == id)?;
        Some(self.all.swap_remove(at))
    }

    /// A client wants to know what happens.
    pub(super) fn follow(&mut self, id: ClientId) {
        if let Some(client) = self.get(id) {
            client.follows = true;
        }
    }

    /// Lets everybody go who was with the life that has ended, and keeps those who have just come.
    pub(super) fn part(&mut self) {
        self.all.retain(|client| !client.has_asked);
    }

    /// Tells one client something; one that does not read will notice that its link is closed.
    pub(super) fn tell(&mut self, id: ClientId, message: &FromSupervisor) {
        if let Some(client) = self.get(id)
            && is_stuck(client.link.try_send(message))
        {
            client.link.finish();
        }
    }

    /// Tells everybody who wants to know. What a guest's kernel prints may be left out.
    pub(super) fn tell_all(&mut self, message: &FromSupervisor) {
        for client in self.all.iter().filter(|client| client.follows) {
            let told = client.link.try_send(message);
            if is_stuck(told) && !matches!(message, FromSupervisor::Console(_)) {
                client.link.finish();
            }
        }
    }
}

/// Whether a client has not read for too long; one that is gone is heard of otherwise.
fn is_stuck(told: io::Result<()>) -> bool {
    told.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(link: &Link) -> Option<FromSupervisor> {
        link.receive().unwrap().map(|(message, _)| message)
    }

    #[test]
    fn whoever_comes_in_says_hello_first() {
        let folder = tempfile::tempdir().unwrap();
        let open = std::fs::File::open(folder.path()).unwrap();
        let (_starter, far) = Link::pair().unwrap();
        let mut clients = Clients::new(far);
        clients.open(Doorway::open(&open, "door").unwrap());
        let said = [
            (vec![ToSupervisor::Hello { version: LINK_VERSION }, ToSupervisor::Wait], true),
            (vec![ToSupervisor::Hello { version: LINK_VERSION + 1 }], false),
            (vec![ToSupervisor::Wait], false),
        ];
        for (number, (words, welcome)) in said.into_iter().enumerate() {
            let link = Link::connect(folder.path(), "door").unwrap();
            clients.admit();
            let id = ClientId::try_from(number).unwrap() + 1;
            words.iter().for_each(|word| link.send(word).unwrap());
            let heard: Vec<_> = words.iter().map(|_| clients.hear(id)).collect();
            match heard.last() {
                Some(Heard::Message(ToSupervisor::Wait, _)) => assert!(welcome),
                Some(Heard::Gone) => assert!(!welcome),
                _ => panic!("{words:?}"),
            }
            if matches!(words[0], ToSupervisor::Hello { .. }) {
                let hello = FromSupervisor::Hello { version: LINK_VERSION };
                assert_eq!(message(&link), Some(hello), "it learns our version, whatever its own");
            }
            clients.remove(id);
        }
    }
}
