//! One connection: a stream of the guest and the Unix socket it is joined to.
//!
//! The guest is hostile and may stop at any point: what it sends is taken only within its credit,
//! so that a connection never holds more than [`BUF_ALLOC`](super::credit::BUF_ALLOC) bytes. The
//! socket never blocks: what it is ready for is remembered from the epoll's edges until a call says
//! otherwise.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use vm_memory::{GuestMemoryError, GuestMemoryMmap, ReadVolatile, VolatileMemoryError};

use super::buffers::Buffers;
use super::credit::Credit;
use super::handshake::{Handshake, Progress};
use super::outbox::{Delivery, Outbox, send_some};
use super::packet::{Closed, Header, MAX_PAYLOAD_BYTES, Operation};
use super::poll::Wake;

/// A connection that a program of the host has opened.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    host_port: u32,
    /// Zero until the handshake has named it.
    guest_port: u32,
    state: State,
    credit: Credit,
    /// What the guest has sent and the socket has not taken yet.
    outbox: Outbox,
    /// What the guest has closed.
    guest_closed: Closed,
    /// What the program of the host has closed.
    host_closed: Closed,
    /// What the guest has been told of that.
    told_closed: Closed,
    /// The guest has asked for a credit update.
    credit_asked: bool,
    /// The socket may have something to read.
    readable: bool,
}

/// How far a connection has come.
#[derive(Debug)]
enum State {
    /// The program of the host has yet to name a port.
    Handshake(Handshake),
    /// The guest has yet to be asked.
    Named,
    /// The guest has been asked.
    Requested,
    /// Bytes flow.
    Open,
    /// The guest has closed it; what it had sent still goes to the socket.
    Draining,
}

/// What becomes of a connection after something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Live,
    /// It ends, and the guest must be told.
    Reset,
    /// It ends, and the guest knows or never knew.
    Gone,
}

/// A packet for the guest: what its header says beside addresses and credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) operation: Operation,
    pub(super) len: u32,
    pub(super) flags: u32,
}

/// The data of a packet from the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload<'a> {
    pub(super) buffers: &'a Buffers,
    pub(super) memory: &'a GuestMemoryMmap,
}

impl Connection {
    /// A connection that was just accepted. `stream` does not block.
    pub(super) fn new(stream: UnixStream, host_port: u32) -> Self {
        Self {
            stream,
            host_port,
            guest_port: 0,
            state: State::Handshake(Handshake::default()),
            credit: Credit::default(),
            outbox: Outbox::default(),
            guest_closed: Closed::default(),
            host_closed: Closed::default(),
            told_closed: Closed::default(),
            credit_asked: false,
            readable: false,
        }
    }

    /// The socket.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The guest's port.
    pub(super) fn guest_port(&self) -> u32 {
        self.guest_port
    }

    /// Whether packets of the guest from `port` belong here.
    pub(super) fn answers_to(&self, port: u32) -> bool {
        matches!(self.state, State::Requested | State::Open) && self.guest_port == port
    }

    /// Whether this connection is none of the driver's business: not yet, or no longer.
    pub(super) fn outlives_driver(&self) -> bool {
        matches!(self.state, State::Handshake(_) | State::Named | State::Draining)
    }

    /// Whether the socket's being writable matters.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether there is a packet for the guest.
    pub(super) fn has_packet(&self) -> bool {
        match self.state {
            State::Named => true,
            State::Open => {
                self.can_read()
                    || self.host_closed != self.told_closed
                    || self.credit_asked
                    || self.credit.update_due()
            }
            State::Handshake(_) | State::Requested | State::Draining => false,
        }
    }

    /// The socket has become ready for something.
    pub(super) fn socket_ready(&mut self, wake: Wake) -> Fate {
        self.readable |= wake.readable;
        match &mut self.state {
            State::Handshake(handshake) => match handshake.read(&self.stream) {
                Progress::Partial => Fate::Live,
                Progress::Port(port) => {
                    self.guest_port = port;
                    self.state = State::Named;
                    Fate::Live
                }
                Progress::Refused => Fate::Gone,
            },
            State::Named if wake.hung_up => Fate::Gone,
            State::Requested if wake.hung_up => Fate::Reset,
            State::Named | State::Requested => Fate::Live,
            State::Open | State::Draining => {
                if wake.hung_up {
                    self.stop_writing();
                }
                if wake.writable {
                    self.outbox.unblock();
                }
                self.drain()
            }
        }
    }

    /// A packet from the guest that [`Self::answers_to`] its port. Its length is that of its
    /// payload.
    pub(super) fn receive(
        &mut self,
        header: &Header,
        payload: Payload<'_>,
    ) -> Result<Fate, GuestMemoryError> {
        let operation = header.operation();
        if operation == Some(Operation::Reset) {
            return Ok(self.guest_gone());
        }
        if self.credit.hear(header.buf_alloc, header.fwd_cnt).is_err() {
            return Ok(Fate::Reset);
        }
        match (&self.state, operation) {
            (State::Requested, Some(Operation::Response)) => Ok(self.open()),
            (State::Requested | State::Open, Some(Operation::CreditUpdate)) => Ok(Fate::Live),
            (State::Open, Some(Operation::Data)) => self.receive_data(header.len, payload),
            (State::Open, Some(Operation::Shutdown)) => {
                Ok(self.guest_closes(Closed::from_flags(header.flags)))
            }
            (State::Open, Some(Operation::CreditRequest)) => {
                self.credit_asked = true;
                Ok(Fate::Live)
            }
            _ => Ok(Fate::Reset),
        }
    }

    /// Makes the next packet for the guest; its data, if any, lies in `buffers` then.
    pub(super) fn next_packet(
        &mut self,
        buffers: &Buffers,
        memory: &GuestMemoryMmap,
    ) -> Result<Option<Outgoing>, GuestMemoryError> {
        let bare = |operation| Some(Outgoing { operation, len: 0, flags: 0 });
        match self.state {
            State::Named => {
                self.state = State::Requested;
                return Ok(bare(Operation::Request));
            }
            State::Open => {}
            State::Handshake(_) | State::Requested | State::Draining => return Ok(None),
        }
        if self.can_read() {
            let len = self.read_into(buffers, memory)?;
            if len > 0 {
                self.credit.send(len);
                return Ok(Some(Outgoing { operation: Operation::Data, len, flags: 0 }));
            }
        }
        if self.host_closed != self.told_closed {
            self.told_closed = self.host_closed;
            let flags = self.host_closed.flags();
            return Ok(Some(Outgoing { operation: Operation::Shutdown, len: 0, flags }));
        }
        if self.credit_asked || self.credit.update_due() {
            return Ok(bare(Operation::CreditUpdate));
        }
        Ok(None)
    }

    /// The credit fields of a packet that goes to the guest now.
    pub(super) fn tell_credit(&mut self) -> (u32, u32) {
        self.credit_asked = false;
        self.credit.tell()
    }

    fn can_read(&self) -> bool {
        self.readable
            && !self.host_closed.send
            && !self.guest_closed.receive
            && self.credit.available() > 0
    }

    /// Reads from the socket into the guest's buffers, as much as its credit allows.
    fn read_into(
        &mut self,
        buffers: &Buffers,
        memory: &GuestMemoryMmap,
    ) -> Result<u32, GuestMemoryError> {
        let limit = self.credit.available().min(MAX_PAYLOAD_BYTES);
        let mut total = 0;
        for slice in buffers.payload(memory, 0, limit as usize) {
            let mut slice = slice?;
            match retry(|| (&self.stream).read_volatile(&mut slice)) {
                Ok(0) => {
                    self.host_closed.send = true;
                    break;
                }
                Ok(count) => {
                    total += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    break;
                }
                Err(_) => {
                    self.host_closed.send = true;
                    self.stop_writing();
                    break;
                }
            }
        }
        Ok(u32::try_from(total).expect("no more than MAX_PAYLOAD_BYTES were asked for"))
    }

    /// The guest has accepted.
    fn open(&mut self) -> Fate {
        self.state = State::Open;
        let line = format!("OK {}\n", self.host_port);
        // An unused socket has room for a line.
        match send_some(&self.stream, line.as_bytes()) {
            Ok(count) if count == line.len() => Fate::Live,
            _ => Fate::Reset,
        }
    }

    fn receive_data(&mut self, len: u32, payload: Payload<'_>) -> Result<Fate, GuestMemoryError> {
        if self.guest_closed.send || self.credit.receive(len).is_err() {
            return Ok(Fate::Reset);
        }
        if self.host_closed.receive {
            // It has been told, or soon will be; this was on its way.
            self.credit.forward(len);
            return Ok(Fate::Live);
        }
        let delivery = self.outbox.accept(&self.stream, len, payload)?;
        self.account(delivery);
        Ok(Fate::Live)
    }

    /// The guest will receive or send no more.
    fn guest_closes(&mut self, closed: Closed) -> Fate {
        self.guest_closed.add(closed);
        if self.guest_closed.receive {
            // Whoever writes shall hear of it. A socket that is not connected any more says so.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        self.drain()
    }

    /// The guest has ended the connection. What it sent before was sent: TCP would throw it away,
    /// but Linux also resets a connection that was closed properly and lingers for eight seconds.
    fn guest_gone(&mut self) -> Fate {
        if self.outbox.is_empty() {
            return Fate::Gone;
        }
        self.state = State::Draining;
        Fate::Live
    }

    /// Gives the socket what it takes of the outbox, and does what was to be done after that.
    fn drain(&mut self) -> Fate {
        let delivery = self.outbox.flush(&self.stream);
        self.account(delivery);
        if !self.outbox.is_empty() {
            return Fate::Live;
        }
        if matches!(self.state, State::Draining) {
            return Fate::Gone;
        }
        if self.guest_closed.both() {
            // The answer to a complete shutdown is a reset (5.10.6.5).
            return Fate::Reset;
        }
        if self.guest_closed.send {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Fate::Live
    }

    /// Bytes of the guest are off our hands, so that it may send more.
    fn account(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Taken(count) => self.credit.forward(count),
            Delivery::Lost(count) => {
                self.credit.forward(count);
                self.host_closed.receive = true;
            }
        }
    }

    /// Nobody reads from the socket's other end any more.
    fn stop_writing(&mut self) {
        self.host_closed.receive = true;
        self.credit.forward(self.outbox.clear());
    }
}

/// Calls `operation` until no signal interrupts it.
pub(super) fn retry<T>(
    mut operation: impl FnMut() -> Result<T, VolatileMemoryError>,
) -> io::Result<T> {
    loop {
        match operation() {
            Ok(value) => return Ok(value),
            Err(VolatileMemoryError::IOError(error))
                if error.kind() == io::ErrorKind::Interrupted => {}
            Err(VolatileMemoryError::IOError(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}
