//! All connections of a guest: who a packet is for, and whose turn it is to send one.
//!
//! Refusals go first, before anything newer: a reset that arrives after the same port's next
//! connection would kill that one. After them each connection with a packet has its turn. Nothing
//! here grows with what the guest does: connections are capped, each holds a bounded buffer, and
//! while many refusals wait for the guest to take them, nothing more is read from it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;

use vm_memory::{GuestMemoryError, GuestMemoryMmap};

use super::buffers::Buffers;
use super::connection::{Connection, Fate, Payload};
use super::packet::{
    HEADER_BYTES, HOST_CID, Header, MAX_PAYLOAD_BYTES, Operation, VIRTIO_VSOCK_TYPE_STREAM,
};
use super::poll::{Interest, Poll, Token, Wake};

/// The most connections at a time, those included that have not said what they want.
const MAX_CONNECTIONS: usize = 512;
/// How many refusals may wait for the guest before nothing more is read from it.
const MAX_REFUSALS: usize = 256;
/// The first port of the host: above all that people know by name.
const FIRST_HOST_PORT: u32 = 1 << 30;

/// The connections of one guest.
#[derive(Debug)]
pub(super) struct Muxer {
    guest_cid: u64,
    next_host_port: u32,
    /// By the host's port, which is unique.
    connections: HashMap<u32, Slot>,
    /// Packets that end what is no connection, or no longer.
    refusals: VecDeque<Header>,
    /// The connections with a packet, in the order of their turns.
    turns: VecDeque<u32>,
}

#[derive(Debug)]
struct Slot {
    connection: Connection,
    /// It is among the turns.
    has_turn: bool,
    interest: Interest,
}

impl Muxer {
    /// No connections to a guest yet.
    pub(super) fn new(guest_cid: u64) -> Self {
        Self {
            guest_cid,
            next_host_port: FIRST_HOST_PORT,
            connections: HashMap::new(),
            refusals: VecDeque::new(),
            turns: VecDeque::new(),
        }
    }

    /// Whether the guest knows of no connection, and waits for no word about one.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.refusals.is_empty()
    }

    /// Whether there are words about connections that are gone.
    pub(super) fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// The port of the host that is tried next.
    pub(super) fn next_port(&self) -> u32 {
        self.next_host_port
    }

    /// Gives no port below this one, before all above it were given.
    pub(super) fn begin_at(&mut self, port: u32) {
        self.next_host_port = port.max(FIRST_HOST_PORT);
    }

    /// Watches the sockets of all connections with a new epoll.
    pub(super) fn watch_all(&mut self, poll: &Poll) -> io::Result<()> {
        for (port, slot) in &self.connections {
            poll.watch(slot.connection.stream(), Token::Connection(*port), slot.interest)?;
        }
        Ok(())
    }

    /// Ends the connections that only a driver which is gone knew of.
    pub(super) fn forget_driver(&mut self) {
        self.refusals.clear();
        self.connections.retain(|_, slot| slot.connection.outlives_driver());
    }

    /// A program of the host has connected. `stream` does not block; it is closed when there are
    /// too many.
    pub(super) fn add(&mut self, stream: UnixStream, poll: &Poll) -> io::Result<()> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return Ok(());
        }
        let port = self.free_port();
        poll.watch(&stream, Token::Connection(port), Interest::Readable)?;
        let connection = Connection::new(stream, port);
        self.connections
            .insert(port, Slot { connection, has_turn: false, interest: Interest::Readable });
        Ok(())
    }

    /// The socket of a connection has become ready for something.
    pub(super) fn socket_ready(&mut self, port: u32, wake: Wake, poll: &Poll) -> io::Result<()> {
        // Its connection may have ended since.
        let Some(slot) = self.connections.get_mut(&port) else { return Ok(()) };
        let fate = slot.connection.socket_ready(wake);
        self.settle(port, fate, poll)
    }

    /// Whether there is room for what a packet from the guest may lead to.
    pub(super) fn has_room(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS
    }

    /// A packet from the guest, which [`Buffers::load`] has found to hold a header.
    pub(super) fn receive(&mut self, payload: Payload<'_>, poll: &Poll) -> Result<(), MuxerError> {
        let header = payload.buffers.read_header(payload.memory)?;
        if header.dst_cid != HOST_CID || header.src_cid != self.guest_cid {
            // Whom should an answer go to?
            return Ok(());
        }
        let port = header.dst_port;
        let slot = self.connections.get_mut(&port).filter(|slot| {
            slot.connection.answers_to(header.src_port) && header.kind == VIRTIO_VSOCK_TYPE_STREAM
        });
        let Some(slot) = slot else {
            // This includes requests: nothing of the host is open to the guest.
            if header.operation() != Some(Operation::Reset) {
                self.refusals.push_back(header.refusal());
            }
            return Ok(());
        };
        let fits =
            header.len <= MAX_PAYLOAD_BYTES && header.len as usize <= payload.buffers.payload_len();
        let fate = if fits { slot.connection.receive(&header, payload)? } else { Fate::Reset };
        Ok(self.settle(port, fate, poll)?)
    }

    /// Whether there may be a packet for the guest.
    pub(super) fn has_packets(&self) -> bool {
        !self.refusals.is_empty() || !self.turns.is_empty()
    }

    /// Writes the next packet for the guest into `buffers` and returns its length, or none when
    /// nobody had one.
    pub(super) fn send(
        &mut self,
        buffers: &Buffers,
        memory: &GuestMemoryMmap,
    ) -> Result<Option<u32>, GuestMemoryError> {
        if let Some(refusal) = self.refusals.pop_front() {
            buffers.write_header(memory, &refusal)?;
            return Ok(Some(packet_bytes(0)));
        }
        while let Some(port) = self.turns.pop_front() {
            let Some(slot) = self.connections.get_mut(&port) else { continue };
            let connection = &mut slot.connection;
            slot.has_turn = false;
            let outgoing = connection.next_packet(buffers, memory)?;
            if let Some(outgoing) = outgoing {
                let (buf_alloc, fwd_cnt) = connection.tell_credit();
                let header = Header {
                    src_cid: HOST_CID,
                    dst_cid: self.guest_cid,
                    src_port: port,
                    dst_port: connection.guest_port(),
                    len: outgoing.len,
                    kind: VIRTIO_VSOCK_TYPE_STREAM,
                    op: outgoing.operation.bits(),
                    flags: outgoing.flags,
                    buf_alloc,
                    fwd_cnt,
                };
                buffers.write_header(memory, &header)?;
            }
            if connection.has_packet() {
                slot.has_turn = true;
                self.turns.push_back(port);
            }
            if let Some(outgoing) = outgoing {
                return Ok(Some(packet_bytes(outgoing.len)));
            }
        }
        Ok(None)
    }

    /// Does what follows from what happened to a connection.
    fn settle(&mut self, port: u32, fate: Fate, poll: &Poll) -> io::Result<()> {
        let Some(slot) = self.connections.get_mut(&port) else { return Ok(()) };
        match fate {
            Fate::Live => {
                if !slot.has_turn && slot.connection.has_packet() {
                    slot.has_turn = true;
                    self.turns.push_back(port);
                }
                slot.watch_for_room(port, poll)
            }
            Fate::Reset => {
                self.refusals.push_back(Header {
                    src_cid: HOST_CID,
                    dst_cid: self.guest_cid,
                    src_port: port,
                    dst_port: slot.connection.guest_port(),
                    kind: VIRTIO_VSOCK_TYPE_STREAM,
                    op: Operation::Reset.bits(),
                    ..Header::default()
                });
                self.connections.remove(&port);
                Ok(())
            }
            Fate::Gone => {
                self.connections.remove(&port);
                Ok(())
            }
        }
    }

    /// A port that no connection has, and that none had for a long time.
    fn free_port(&mut self) -> u32 {
        loop {
            let port = self.next_host_port;
            self.next_host_port = port.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            if !self.connections.contains_key(&port) {
                return port;
            }
        }
    }
}

impl Slot {
    /// Watches for room in the socket only while something waits for it: each read of a program
    /// would wake us otherwise.
    fn watch_for_room(&mut self, port: u32, poll: &Poll) -> io::Result<()> {
        let interest = if self.connection.wants_to_write() {
            Interest::ReadableOrWritable
        } else {
            Interest::Readable
        };
        if interest != self.interest {
            poll.rewatch(self.connection.stream(), Token::Connection(port), interest)?;
            self.interest = interest;
        }
        Ok(())
    }
}

/// Why a packet could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum MuxerError {
    /// The guest's memory is not what it was.
    #[error("cannot read the guest's memory")]
    Memory(#[from] GuestMemoryError),
    /// The epoll failed.
    #[error("cannot watch a socket")]
    Poll(#[from] io::Error),
}

fn packet_bytes(payload_bytes: u32) -> u32 {
    u32::try_from(HEADER_BYTES).expect("44 is a small number") + payload_bytes
}
