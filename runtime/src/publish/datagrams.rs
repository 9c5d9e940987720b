//! What comes to a port of UDP, and what the program answers: each peer has a socket of its own towards
//! the container, so that answers find their way back.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The most peers that all ports have together; the one that was silent longest makes room for another.
pub(super) const MAX_PEERS: usize = 512;
/// How long a peer may be silent, as Docker's proxy has it.
const PATIENCE: Duration = Duration::from_secs(90);
/// The longest datagram, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// How many are taken from one socket before others have their turn.
const TURN: usize = 64;

/// Who has sent something to which door.
type From = (usize, SocketAddr);

/// All peers of all doors.
#[derive(Debug)]
pub(super) struct Peers {
    by_origin: HashMap<From, usize>,
    slots: Vec<Option<Peer>>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Peer {
    origin: From,
    socket: UdpSocket,
    heard: Instant,
}

impl Peers {
    /// None yet.
    pub(super) fn new() -> Self {
        let (by_origin, slots) = Default::default();
        Self { by_origin, slots, buffer: vec![0; MAX_BYTES] }
    }

    /// Takes what has come to a door; `watch` is asked to wait for the socket of a new peer.
    pub(super) fn hear_door(
        &mut self,
        (door, socket): (usize, &UdpSocket),
        target: SocketAddr,
        now: Instant,
        watch: impl Fn(&UdpSocket, usize) -> std::io::Result<()>,
    ) {
        for _ in 0..TURN {
            let Ok((count, address)) = socket.recv_from(&mut self.buffer) else { return };
            let origin = (door, address);
            let slot = match self.by_origin.get(&origin) {
                Some(slot) => *slot,
                None => match self.add(origin, target, now, &watch) {
                    Ok(slot) => slot,
                    // As good as lost on the way.
                    Err(_) => continue,
                },
            };
            if let Some(peer) = &mut self.slots[slot] {
                peer.heard = now;
                let _ = peer.socket.send(&self.buffer[..count]);
            }
        }
    }

    /// Takes what the program has answered to one; `door` gives the socket it goes out by.
    pub(super) fn hear_program<'a>(
        &mut self,
        slot: usize,
        now: Instant,
        door: impl FnOnce(usize) -> Option<&'a UdpSocket>,
    ) {
        let Some(Some(peer)) = self.slots.get_mut(slot) else { return };
        let (number, address) = peer.origin;
        let Some(door) = door(number) else { return };
        for _ in 0..TURN {
            match peer.socket.recv(&mut self.buffer) {
                Ok(count) => {
                    peer.heard = now;
                    let _ = door.send_to(&self.buffer[..count], address);
                }
                // Nothing more, or a port where nobody listens; the next datagram tries again.
                Err(_) => return,
            }
        }
    }

    /// Forgets those that are silent; when to look again, if any are left.
    pub(super) fn forget_silent(&mut self, now: Instant) -> Option<Instant> {
        for slot in 0..self.slots.len() {
            let is_silent = |peer: &Peer| now.saturating_duration_since(peer.heard) >= PATIENCE;
            if self.slots[slot].as_ref().is_some_and(is_silent) {
                self.remove(slot);
            }
        }
        self.slots.iter().flatten().map(|peer| peer.heard + PATIENCE).min()
    }

    fn add(
        &mut self,
        origin: From,
        target: SocketAddr,
        now: Instant,
        watch: impl Fn(&UdpSocket, usize) -> std::io::Result<()>,
    ) -> std::io::Result<usize> {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        let slot = self.free_slot();
        watch(&socket, slot)?;
        self.slots[slot] = Some(Peer { origin, socket, heard: now });
        self.by_origin.insert(origin, slot);
        Ok(slot)
    }

    fn free_slot(&mut self) -> usize {
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            return free;
        }
        if self.slots.len() < MAX_PEERS {
            self.slots.push(None);
            return self.slots.len() - 1;
        }
        let heard = |slot: &usize| self.slots[*slot].as_ref().map(|peer| peer.heard);
        let oldest = (0..self.slots.len()).min_by_key(heard).expect("there are some");
        self.remove(oldest);
        oldest
    }

    fn remove(&mut self, slot: usize) {
        if let Some(peer) = self.slots[slot].take() {
            self.by_origin.remove(&peer.origin);
        }
    }
}
