//! The loop of the resolver: listens at the gateway of each network, answers what it knows, and asks
//! others about the rest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, sockopt};

use crate::folders::{Change, Folders};
use crate::forward::{Client, Forwarder, Reply, Watch};
use crate::judge::{self, DATAGRAM_BYTES, Verdict, judge};
use crate::stream::{Count, serve_aside};
use crate::upstream::{reachable, servers};

const BACKLOG: i32 = 64;
/// The longest question by UDP, in bytes.
const MAX_QUERY_BYTES: usize = 4 << 10;
/// How many connections are taken from one socket before others have their turn.
const TURN: usize = 64;
const EVENTS: usize = 64;

/// What depends on the host.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The port of questions, here and at the servers that are asked.
    pub port: u16,
    /// Where the host says whom it asks.
    pub resolv_conf: PathBuf,
}

/// What the threads of connections read, and the main thread changes.
pub(crate) struct Shared {
    folders: Folders,
    setting: Setting,
}

impl Shared {
    /// Decides about a question that somebody with this address has asked on a network.
    pub(crate) fn judge(
        &self,
        network: &str,
        address: IpAddr,
        query: &[u8],
        room: usize,
    ) -> Verdict {
        let scopes = self.folders.scopes(network, judge::plain(address));
        match scopes[..] {
            // It was removed meanwhile.
            [] => Verdict::Silence,
            _ => judge(query, &scopes, |lease| self.folders.runs(lease), room),
        }
    }

    /// Whom somebody with this address wants to be asked.
    pub(crate) fn servers(&self, network: &str, address: IpAddr) -> Vec<SocketAddr> {
        let (ours, port) = (self.folders.gateways(), self.setting.port);
        let place = self.folders.place(network);
        match place.map(|place| place.servers(judge::plain(address))) {
            Some(own) if !own.is_empty() => reachable(own, &ours, port),
            // A host without such a file has a server of its own, or none.
            _ => servers(&fs::read(&self.setting.resolv_conf).unwrap_or_default(), &ours, port),
        }
    }
}

/// Where a network is asked.
struct Door {
    network: String,
    address: SocketAddr,
    datagrams: UdpSocket,
    streams: TcpListener,
}

/// Who has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Folders,
    Datagrams(usize),
    Streams(usize),
    Answer(usize),
}

impl Wake {
    /// Its kind in the lowest bits, its number above.
    fn to_data(self) -> EventData {
        let (kind, number) = match self {
            Self::Folders => (0, 0),
            Self::Datagrams(number) => (1, number),
            Self::Streams(number) => (2, number),
            Self::Answer(number) => (3, number),
        };
        EventData::new_u64((number as u64) << 2 | kind)
    }

    fn from_data(data: EventData) -> Self {
        let data = data.u64();
        let number = usize::try_from(data >> 2).expect("it was one");
        match data & 3 {
            0 => Self::Folders,
            1 => Self::Datagrams(number),
            2 => Self::Streams(number),
            _ => Self::Answer(number),
        }
    }
}

/// Answers for all networks under a root, until there are none any more.
///
/// # Errors
/// When the kernel lets nobody watch or wait.
pub fn serve(root: &Path, setting: Setting) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let folders = Folders::open(root)?;
    epoll::add(&epoll, &folders, Wake::Folders.to_data(), EventFlags::IN)?;
    let mut server = Server {
        epoll,
        port: setting.port,
        shared: Arc::new(RwLock::new(Shared { folders, setting })),
        doors: BTreeMap::new(),
        opened: 0,
        forwarder: Forwarder::default(),
        count: Count::default(),
    };
    server.open_doors();
    server.run()
}

struct Server {
    epoll: OwnedFd,
    port: u16,
    /// Between the main thread, which writes, and those of connections.
    shared: Arc<RwLock<Shared>>,
    doors: BTreeMap<usize, Door>,
    /// How many doors there have been.
    opened: usize,
    forwarder: Forwarder,
    count: Count,
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let patience = self.patience();
            events.clear();
            retry_on_intr(|| {
                epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref())
            })?;
            // Whoever asks may have been told of somebody who has just come.
            let change = self.shared_mut().folders.catch_up();
            match change {
                Change::Leases => {}
                Change::Networks => self.open_doors(),
                Change::Gone => return Ok(()),
            }
            let now = Instant::now();
            for Event { data, .. } in events.drain(..) {
                match Wake::from_data(data) {
                    Wake::Folders => {}
                    Wake::Datagrams(door) => self.hear_datagram(door, now),
                    Wake::Streams(door) => self.admit(door),
                    Wake::Answer(slot) => self.hear_answer(slot, now),
                }
            }
            let replies = self.with_forwarder(|forwarder, watch| forwarder.overdue(now, watch));
            replies.into_iter().for_each(|reply| self.reply(reply));
        }
    }

    fn patience(&self) -> Option<Timespec> {
        let left = self.forwarder.next_due()?.saturating_duration_since(Instant::now());
        Some(Timespec::try_from(left).expect("a patience in seconds"))
    }

    fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_mut(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens where there are networks, and nowhere else. What cannot be listened at now is tried again
    /// when there are others.
    fn open_doors(&mut self) {
        let wanted: BTreeMap<String, SocketAddr> = self
            .shared()
            .folders
            .networks()
            .map(|(name, network)| (name.to_owned(), (network.gateway, self.port).into()))
            .collect();
        self.doors.retain(|_, door| wanted.get(&door.network) == Some(&door.address));
        for (network, address) in wanted {
            if self.doors.values().any(|door| door.network == network) {
                continue;
            }
            if let Ok((datagrams, streams)) = open_door(address) {
                self.keep_door(Door { network, address, datagrams, streams });
            }
        }
    }

    fn keep_door(&mut self, door: Door) {
        let number = self.opened;
        let datagrams = Wake::Datagrams(number).to_data();
        let streams = Wake::Streams(number).to_data();
        let watched = epoll::add(&self.epoll, &door.datagrams, datagrams, EventFlags::IN)
            .and_then(|()| epoll::add(&self.epoll, &door.streams, streams, EventFlags::IN));
        if watched.is_ok() {
            self.opened += 1;
            self.doors.insert(number, door);
        }
    }

    /// Hears one: whoever sent the next may know of somebody who has come since.
    fn hear_datagram(&mut self, number: usize, now: Instant) {
        let mut query = [0; MAX_QUERY_BYTES];
        let Some(door) = self.doors.get(&number) else { return };
        let Ok((count, address)) = door.datagrams.recv_from(&mut query) else { return };
        let client = Client { network: door.network.clone(), address };
        self.hear_query(client, &query[..count], now);
    }

    fn hear_query(&mut self, client: Client, query: &[u8], now: Instant) {
        let address = client.address.ip();
        let verdict = self.shared().judge(&client.network, address, query, DATAGRAM_BYTES);
        match verdict {
            Verdict::Answer(answer) => self.reply((client, answer)),
            Verdict::Forward => {
                let servers = self.shared().servers(&client.network, client.address.ip());
                let reply = self.with_forwarder(|forwarder, watch| {
                    forwarder.ask(client, query, servers, now, watch)
                });
                if let Some(reply) = reply {
                    self.reply(reply);
                }
            }
            Verdict::Silence => {}
        }
    }

    fn hear_answer(&mut self, slot: usize, now: Instant) {
        let reply = self.with_forwarder(|forwarder, watch| forwarder.hear(slot, now, watch));
        if let Some(reply) = reply {
            self.reply(reply);
        }
    }

    fn with_forwarder<T>(&mut self, act: impl FnOnce(&mut Forwarder, Watch<'_>) -> T) -> T {
        let epoll = &self.epoll;
        let watch = |socket: &UdpSocket, slot| {
            Ok(epoll::add(epoll, socket, Wake::Answer(slot).to_data(), EventFlags::IN)?)
        };
        act(&mut self.forwarder, &watch)
    }

    /// Sends an answer. One that is lost is asked for again.
    fn reply(&self, (client, answer): Reply) {
        if let Some(door) = self.doors.values().find(|door| door.network == client.network) {
            let _ = door.datagrams.send_to(&answer, client.address);
        }
    }

    fn admit(&self, number: usize) {
        let Some(door) = self.doors.get(&number) else { return };
        for _ in 0..TURN {
            let Ok((stream, peer)) = door.streams.accept() else { return };
            serve_aside(stream, peer, door.network.clone(), &self.shared, &self.count);
        }
    }
}

/// Listens at an address, which may be one that the host has only later.
fn open_door(address: SocketAddr) -> Result<(UdpSocket, TcpListener), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = |kind| {
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
        sockopt::set_ip_freebind(&socket, true)?;
        Ok(socket)
    };
    let datagrams: OwnedFd = socket(SocketType::DGRAM)?;
    bind(&datagrams, &address)?;
    let streams: OwnedFd = socket(SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&streams, true)?;
    bind(&streams, &address)?;
    listen(&streams, BACKLOG)?;
    Ok((datagrams.into(), streams.into()))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
