//! The thread that carries what comes to a container's published ports into the container. There is none
//! where nothing is published.
//!
//! The kernel moves the bytes of connections; none waits here unless a reader is slower than its writer.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::datagrams::{MAX_PEERS, Peers};
use super::door::{Door, DoorSocket};
use super::pipes::Pipes;
use super::relay::{Next, Relay};

/// The most connections at a time; who comes later waits until one ends.
const MAX_RELAYS: usize = 1024;
/// Two sockets, and a pipe for each way.
const FILES_PER_RELAY: usize = 6;
/// What everything else may open.
const OTHER_FILES: usize = 256;
const STACK_BYTES: usize = 64 << 10;
/// How many are let in at a time by one door.
const TURN: usize = 64;
/// How many events are looked at before the next question.
const EVENTS: usize = 64;

/// The thread at work.
#[derive(Debug)]
pub(crate) struct Proxy {
    thread: JoinHandle<Vec<Door>>,
    stop: OwnedFd,
}

impl Proxy {
    /// Lets in whoever knocks at these doors, and leads them to the container at `target`.
    ///
    /// # Errors
    /// When the host has no thread for it, or no file to wait with.
    pub(crate) fn start(doors: Vec<Door>, target: IpAddr) -> io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let hall = Hall::new(doors, target, &stop)?;
        let thread = Builder::new().name("proxy".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || hall.serve())?;
        Ok(Self { thread, stop })
    }

    /// Ends all connections, and gives the doors back, at which whoever knocks waits.
    pub(crate) fn stop(self) -> Vec<Door> {
        // An event counter has room for one.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        self.thread.join().unwrap_or_default()
    }
}

/// Who has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Stop,
    Door(usize),
    Relay(usize),
    Peer(usize),
}

impl Wake {
    /// Its kind in the lowest bits, its number above.
    fn to_data(self) -> EventData {
        let (kind, number) = match self {
            Self::Stop => (0, 0),
            Self::Door(number) => (1, number),
            Self::Relay(number) => (2, number),
            Self::Peer(number) => (3, number),
        };
        EventData::new_u64((number as u64) << 2 | kind)
    }

    fn from_data(data: EventData) -> Self {
        let data = data.u64();
        let number = usize::try_from(data >> 2).expect("it was one");
        match data & 3 {
            0 => Self::Stop,
            1 => Self::Door(number),
            2 => Self::Relay(number),
            _ => Self::Peer(number),
        }
    }
}

/// Doors, and all that has come in by them.
struct Hall {
    epoll: OwnedFd,
    doors: Vec<Door>,
    target: IpAddr,
    relays: Vec<Option<Relay>>,
    /// Connections that may come before one has to end.
    room: usize,
    /// Places whose connection has ended; events about them may still be on their way.
    left: Vec<usize>,
    free: Vec<usize>,
    pipes: Pipes,
    peers: Option<Peers>,
    /// Whoever wants another turn.
    eager: Vec<usize>,
}

impl Hall {
    fn new(doors: Vec<Door>, target: IpAddr, stop: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, stop, Wake::Stop.to_data(), EventFlags::IN)?;
        for (number, door) in doors.iter().enumerate() {
            let wake = Wake::Door(number).to_data();
            epoll::add(&epoll, &door.socket, wake, EventFlags::IN)?;
        }
        let has_datagrams =
            doors.iter().any(|door| matches!(door.socket, DoorSocket::Datagrams(_)));
        Ok(Self {
            epoll,
            doors,
            target,
            relays: Vec::new(),
            room: most_relays(),
            left: Vec::new(),
            free: Vec::new(),
            pipes: Pipes::default(),
            peers: has_datagrams.then(Peers::new),
            eager: Vec::new(),
        })
    }

    /// Serves until it is told to stop, or the kernel has nothing to wait with.
    fn serve(mut self) -> Vec<Door> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut silence: Option<Instant> = None;
        loop {
            let patience = self.patience(silence);
            events.clear();
            let mut wait =
                || epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref());
            if retry_on_intr(&mut wait).is_err() {
                return self.doors;
            }
            let now = Instant::now();
            for Event { data, .. } in events.drain(..) {
                match Wake::from_data(data) {
                    Wake::Stop => return self.doors,
                    Wake::Door(number) => self.hear_door(number, now),
                    Wake::Relay(number) => self.turn(number),
                    Wake::Peer(number) => self.hear_peer(number, now),
                }
            }
            for number in std::mem::take(&mut self.eager) {
                self.turn(number);
            }
            self.make_room();
            silence = self.look_for_silence(silence, now);
        }
    }

    /// How long to wait; for ever where nobody is eager and nobody can fall silent.
    fn patience(&self, silence: Option<Instant>) -> Option<Timespec> {
        if !self.eager.is_empty() {
            return Some(Timespec::default());
        }
        let left = silence?.saturating_duration_since(Instant::now());
        Some(Timespec::try_from(left).expect("a patience in seconds"))
    }

    fn hear_door(&mut self, number: usize, now: Instant) {
        let door = &self.doors[number];
        let target = SocketAddr::new(self.target, door.published.port.number);
        match (&door.socket, &mut self.peers) {
            (DoorSocket::Streams(_), _) => self.admit(number, target),
            (DoorSocket::Datagrams(socket), Some(peers)) => {
                let watch = |peer: &UdpSocket, slot| {
                    let wake = Wake::Peer(slot).to_data();
                    Ok(epoll::add(&self.epoll, peer, wake, EventFlags::IN)?)
                };
                peers.hear_door((number, socket), target, now, watch);
            }
            (DoorSocket::Datagrams(_), None) => {}
        }
    }

    /// Lets in who waits at a door, as far as there is room.
    fn admit(&mut self, number: usize, target: SocketAddr) {
        for _ in 0..TURN {
            if self.room == 0 {
                return self.watch_doors(EventFlags::empty());
            }
            let DoorSocket::Streams(listener) = &self.doors[number].socket else { return };
            let client = match accept(listener) {
                Ok(client) => client,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // Until one ends, if there is one.
                    self.room = 0;
                    return self.watch_doors(EventFlags::empty());
                }
                Err(_) => return,
            };
            // Who cannot be led on is gone already.
            if let Ok(relay) = Relay::begin(client, target) {
                self.keep(relay);
            }
        }
    }

    fn keep(&mut self, relay: Relay) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.relays.push(None);
            self.relays.len() - 1
        });
        let wake = Wake::Relay(number).to_data();
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        let watched = relay.sockets().map(|socket| epoll::add(&self.epoll, socket, wake, flags));
        if watched.iter().any(Result::is_err) {
            return self.free.push(number);
        }
        self.relays[number] = Some(relay);
        self.room -= 1;
    }

    fn turn(&mut self, number: usize) {
        let Some(relay) = &mut self.relays[number] else { return };
        match relay.turn(&mut self.pipes) {
            Next::Wait => {}
            Next::Turn if self.eager.contains(&number) => {}
            Next::Turn => self.eager.push(number),
            Next::Close => {
                self.relays[number] = None;
                self.left.push(number);
            }
        }
    }

    /// No event about those who have left can come any more: others may have their places.
    fn make_room(&mut self) {
        if self.left.is_empty() {
            return;
        }
        if self.room == 0 {
            self.watch_doors(EventFlags::IN);
        }
        self.room += self.left.len();
        self.free.append(&mut self.left);
    }

    fn watch_doors(&self, flags: EventFlags) {
        for (number, door) in self.doors.iter().enumerate() {
            if let DoorSocket::Streams(listener) = &door.socket {
                let modified =
                    epoll::modify(&self.epoll, listener, Wake::Door(number).to_data(), flags);
                modified.expect("it is being waited for, and needs no memory to be so otherwise");
            }
        }
    }

    fn hear_peer(&mut self, slot: usize, now: Instant) {
        let doors = &self.doors;
        let door = |number: usize| match &doors[number].socket {
            DoorSocket::Datagrams(socket) => Some(socket),
            DoorSocket::Streams(_) => None,
        };
        if let Some(peers) = &mut self.peers {
            peers.hear_program(slot, now, door);
        }
    }

    /// When to look again for peers that are silent.
    fn look_for_silence(&mut self, last: Option<Instant>, now: Instant) -> Option<Instant> {
        match (&mut self.peers, last) {
            (Some(_), Some(last)) if now < last => Some(last),
            (Some(peers), _) => peers.forget_silent(now),
            (None, _) => None,
        }
    }
}

fn accept(listener: &TcpListener) -> Result<TcpStream, Errno> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map(TcpStream::from)
}

/// How many connections this process may have, after it has allowed itself enough files.
fn most_relays() -> usize {
    let wanted = (OTHER_FILES + MAX_PEERS + MAX_RELAYS * FILES_PER_RELAY) as u64;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let has = limit.current.unwrap_or(u64::MAX);
    if has < most {
        // As it is, where that is refused.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    }
    let files = usize::try_from(has.max(most).min(wanted)).unwrap_or(MAX_RELAYS);
    (files.saturating_sub(OTHER_FILES + MAX_PEERS) / FILES_PER_RELAY).clamp(1, MAX_RELAYS)
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
