//! Questions that others are asked by UDP. Each has a socket and a number of its own, so that a stranger
//! who wants to answer has two things to guess; and there are never more than a few.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::judge::{failure, id, is_answer, is_no_help, set_id};

/// The most questions that wait for an answer.
const MAX_WAITING: usize = 256;
/// The most of one client.
const MAX_OF_CLIENT: usize = 64;
/// How long a server has for its answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How often servers are asked in turn; a client asks for no longer than 5 seconds.
pub(crate) const ATTEMPTS: usize = 3;
/// The most datagrams that are looked at for one question.
const MAX_STRAYS: u8 = 32;
/// The longest answer, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Who has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The folder of the network that they are on.
    pub(crate) network: String,
    /// Where the answer goes.
    pub(crate) address: SocketAddr,
}

/// An answer, and whose it is.
pub(crate) type Reply = (Client, Vec<u8>);

/// All questions that wait for an answer.
#[derive(Default)]
pub(crate) struct Forwarder {
    waiting: Vec<Option<Waiting>>,
    buffer: Vec<u8>,
}

struct Waiting {
    client: Client,
    /// As the client has put it.
    query: Vec<u8>,
    /// The number it has out there.
    id: u16,
    servers: Vec<SocketAddr>,
    attempts: usize,
    strays: u8,
    socket: UdpSocket,
    until: Instant,
}

/// Waits for a socket on behalf of the question with this number.
pub(crate) type Watch<'a> = &'a dyn Fn(&UdpSocket, usize) -> io::Result<()>;

impl Forwarder {
    /// Asks the first of some servers; an answer at once when nobody can be asked.
    pub(crate) fn ask(
        &mut self,
        client: Client,
        query: &[u8],
        servers: Vec<SocketAddr>,
        now: Instant,
        watch: Watch<'_>,
    ) -> Option<Reply> {
        let failed = |client| failure(query).map(|answer| (client, answer));
        let Some(slot) = self.free_slot(&client) else { return failed(client) };
        for (attempts, server) in servers.iter().enumerate() {
            let Ok((socket, id)) = send(query, *server) else { continue };
            if watch(&socket, slot).is_err() {
                break;
            }
            self.waiting[slot] = Some(Waiting {
                client,
                query: query.to_vec(),
                id,
                attempts: attempts + 1,
                strays: 0,
                socket,
                until: now + PATIENCE,
                servers,
            });
            return None;
        }
        failed(client)
    }

    /// Hears what a server has to say to a question.
    pub(crate) fn hear(&mut self, slot: usize, now: Instant, watch: Watch<'_>) -> Option<Reply> {
        self.buffer.resize(MAX_BYTES, 0);
        loop {
            let waiting = self.waiting.get_mut(slot)?.as_mut()?;
            let count = match waiting.socket.recv(&mut self.buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Nobody is there, as the kernel was told.
                Err(_) => return self.ask_next(slot, now, watch),
            };
            let answer = &self.buffer[..count];
            if is_answer(answer, &waiting.query, waiting.id) {
                if is_no_help(answer) && waiting.has_more() {
                    return self.ask_next(slot, now, watch);
                }
                let mut answer = answer.to_vec();
                let waiting = self.waiting[slot].take()?;
                set_id(&mut answer, id(&waiting.query));
                return Some((waiting.client, answer));
            }
            waiting.strays += 1;
            if waiting.strays > MAX_STRAYS {
                return self.ask_next(slot, now, watch);
            }
        }
    }

    /// Asks others about what has waited too long; the failures where there are no others.
    pub(crate) fn overdue(&mut self, now: Instant, watch: Watch<'_>) -> Vec<Reply> {
        let due = |one: &Option<Waiting>| one.as_ref().is_some_and(|one| one.until <= now);
        let slots: Vec<_> = (0..self.waiting.len()).filter(|at| due(&self.waiting[*at])).collect();
        slots.into_iter().filter_map(|slot| self.ask_next(slot, now, watch)).collect()
    }

    /// When the next has waited too long.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.iter().flatten().map(|waiting| waiting.until).min()
    }

    fn ask_next(&mut self, slot: usize, now: Instant, watch: Watch<'_>) -> Option<Reply> {
        let mut waiting = self.waiting[slot].take()?;
        while waiting.has_more() {
            let server = waiting.servers[waiting.attempts % waiting.servers.len()];
            waiting.attempts += 1;
            let Ok((socket, id)) = send(&waiting.query, server) else { continue };
            if watch(&socket, slot).is_err() {
                break;
            }
            let (strays, until) = (0, now + PATIENCE);
            self.waiting[slot] = Some(Waiting { socket, id, strays, until, ..waiting });
            return None;
        }
        Some((waiting.client, failure(&waiting.query)?))
    }

    /// A place for one more question, if this client may have one.
    fn free_slot(&mut self, client: &Client) -> Option<usize> {
        let of_client = |one: &&Waiting| one.client.address.ip() == client.address.ip();
        if self.waiting.iter().flatten().filter(of_client).count() >= MAX_OF_CLIENT {
            return None;
        }
        if let Some(free) = self.waiting.iter().position(Option::is_none) {
            return Some(free);
        }
        (self.waiting.len() < MAX_WAITING).then(|| {
            self.waiting.push(None);
            self.waiting.len() - 1
        })
    }
}

impl Waiting {
    fn has_more(&self) -> bool {
        self.attempts < ATTEMPTS.max(self.servers.len())
    }
}

/// Sends a question under a number that nobody can know, from a port that the kernel chooses.
fn send(query: &[u8], server: SocketAddr) -> io::Result<(UdpSocket, u16)> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    let id = random()?;
    let mut query = query.to_vec();
    set_id(&mut query, id);
    socket.send(&query)?;
    Ok((socket, id))
}

/// A number that nobody can know.
pub(crate) fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}
