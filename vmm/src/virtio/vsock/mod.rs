//! Sockets between the guest and Unix sockets of the host (virtio 1.2, section 5.10).
//!
//! A program of the host connects to the listener and writes `CONNECT <port>\n`; once the guest has
//! accepted it reads `OK <port of the host>\n`, and from there on bytes flow both ways, each
//! direction closed on its own. A refusal closes the socket. The guest itself can open nothing.
//!
//! What the guest says is hostile: lengths, addresses, ports and credit are checked before use, and
//! a lie ends the connection it was told on (RST) or, where that is unclear, is dropped. Memory is
//! bounded by the number of connections times the buffer each has; a peer that does not read stops
//! the one that writes.
//!
//! Data is written to sockets by write(2): the process must ignore SIGPIPE, as every Rust program
//! does unless it says otherwise.

mod buffers;
mod connection;
mod credit;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handshake;
mod muxer;
mod outbox;
mod packet;
mod poll;
mod reset;
#[cfg(test)]
mod tests;
mod untold;

use std::fmt;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SocketFlags, accept_with};
use virtio_queue::{QueueOwnedT, QueueT};

use self::buffers::{Buffers, Direction};
use self::connection::Payload;
use self::muxer::{Muxer, MuxerError};
use self::poll::{Interest, Patience, Poll, Token, Wake};
use self::reset::Reset;
use self::untold::Untold;
use super::device::{Activated, DeviceError, DeviceKind, VirtioDevice};
use crate::config::VsockConfig;

/// The queue of packets for the guest.
const RX: usize = 0;
/// The queue of packets from the guest.
const TX: usize = 1;
/// The queue of events for the guest.
const EVENT: usize = 2;
/// Sizes of the receive, transmit and event queues. Linux fills the whole receive queue with
/// buffers of 4 KiB when it boots, so a longer one is not free.
const QUEUE_SIZES: &[u16] = &[128, 128, 16];
/// What a socket is to hold of the guest's bytes until its reader takes them.
const SOCKET_BYTES: usize = 512 << 10;
/// How many packets of one direction are served before the other has its turn.
const BATCH: usize = 64;

/// The vsock device.
pub struct Vsock {
    listener: UnixListener,
    /// `struct virtio_vsock_config`: the guest's context id.
    config: [u8; 8],
    muxer: Muxer,
    /// Whether the guest knows that it has no connections any more, if that is so.
    reset: Reset,
    untold: Untold,
}

/// How a queue was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// There is nothing to do until something happens; the guest's next buffer is announced.
    All,
    /// There is more to do.
    Some,
}

impl Vsock {
    /// A device that accepts connections from `config.listener` once a driver runs.
    #[must_use]
    pub fn new(config: VsockConfig) -> Self {
        Self {
            listener: config.listener,
            config: config.cid.to_le_bytes(),
            muxer: Muxer::new(config.cid),
            reset: Reset::Done,
            untold: Untold::default(),
        }
    }

    /// Accepts who has connected. Returns whether to try again: there may be more, but no
    /// descriptors for them.
    fn accept(&mut self, poll: &Poll) -> io::Result<bool> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.listener, flags) {
                Ok(socket) => {
                    // The host's kernel gives as much of it as it allows: with more room in the
                    // socket, its reader and this thread wake each other less often.
                    let _ = set_socket_send_buffer_size(&socket, SOCKET_BYTES);
                    self.muxer.add(UnixStream::from(socket), poll)?;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(
                    rustix::io::Errno::MFILE
                    | rustix::io::Errno::NFILE
                    | rustix::io::Errno::NOBUFS
                    | rustix::io::Errno::NOMEM,
                ) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes packets from the guest.
    fn serve_tx(
        &mut self,
        activated: &mut Activated,
        poll: &Poll,
        buffers: &mut Buffers,
    ) -> Result<Served, DeviceError> {
        let memory = &activated.memory;
        let queue = &mut activated.queues[TX].queue;
        let mut served = Served::Some;
        for _ in 0..BATCH {
            if !self.muxer.has_room() {
                // The guest must take what waits for it first; that kicks the other queue.
                served = Served::All;
                break;
            }
            let Some(chain) = queue.iter(memory).map_err(DeviceError::queue(TX))?.next() else {
                if queue.enable_notification(memory).map_err(DeviceError::queue(TX))? {
                    continue;
                }
                served = Served::All;
                break;
            };
            let head = chain.head_index();
            if buffers.load(memory, chain, Direction::FromGuest) {
                self.muxer.receive(Payload { buffers, memory }, poll).map_err(device_error)?;
            }
            queue.add_used(memory, head, 0).map_err(DeviceError::queue(TX))?;
            self.untold.took(buffers.count());
        }
        Ok(served)
    }

    /// Gives packets to the guest.
    fn serve_rx(
        &mut self,
        activated: &mut Activated,
        buffers: &mut Buffers,
    ) -> Result<Served, DeviceError> {
        let memory = &activated.memory;
        let queue = &mut activated.queues[RX].queue;
        let mut served = Served::Some;
        for _ in 0..BATCH {
            if !self.muxer.has_packets() {
                served = Served::All;
                break;
            }
            let Some(chain) = queue.iter(memory).map_err(DeviceError::queue(RX))?.next() else {
                if queue.enable_notification(memory).map_err(DeviceError::queue(RX))? {
                    continue;
                }
                served = Served::All;
                break;
            };
            let head = chain.head_index();
            let bytes = if buffers.load(memory, chain, Direction::ToGuest) {
                self.muxer.send(buffers, memory).map_err(|error| device_error(error.into()))?
            } else {
                Some(0)
            };
            let Some(bytes) = bytes else {
                // Nobody had anything after all: the buffer stays for the next packet.
                queue.set_next_avail(queue.next_avail().wrapping_sub(1));
                continue;
            };
            queue.add_used(memory, head, bytes).map_err(DeviceError::queue(RX))?;
            self.untold.gave();
        }
        Ok(served)
    }

    /// Takes what a guest that runs no more has sent before, which may be its last words, and tells it what
    /// follows from them for connections that are gone: a copy would not hear of it.
    fn serve_last(
        &mut self,
        activated: &mut Activated,
        poll: &Poll,
        buffers: &mut Buffers,
    ) -> Result<(), DeviceError> {
        for _ in 0..=usize::from(QUEUE_SIZES[TX]) / BATCH {
            if self.serve_tx(activated, poll, buffers)? == Served::All {
                break;
            }
        }
        while self.muxer.has_refusals() && self.serve_rx(activated, buffers)? == Served::Some {}
        while !self.untold.is_empty() {
            self.untold.tell(activated)?;
        }
        Ok(())
    }

    /// Everything to wait for.
    fn watch(&mut self, activated: &Activated) -> io::Result<Poll> {
        let poll = Poll::new()?;
        poll.watch(&activated.stop, Token::Stop, Interest::Level)?;
        for queue in &activated.queues {
            poll.watch(&queue.kick, Token::Kick, Interest::Readable)?;
        }
        self.listener.set_nonblocking(true)?;
        poll.watch(&self.listener, Token::Listener, Interest::Readable)?;
        self.muxer.watch_all(&poll)?;
        Ok(poll)
    }
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Vsock
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    /// The port that the next connection gets, which none had before, if the guest has any.
    fn past(&self) -> u32 {
        let has_connections = self.reset != Reset::Done || !self.muxer.is_empty();
        if has_connections { self.muxer.next_port() } else { 0 }
    }

    fn follow(&mut self, past: u32) {
        if past != 0 {
            self.muxer.begin_at(past);
            self.reset = Reset::Owed;
        }
    }

    fn run(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        if is_fresh(activated) {
            self.muxer.forget_driver();
            self.reset = Reset::Done;
        }
        let mut poll =
            self.watch(activated).map_err(DeviceError::host("watch the vsock device's sockets"))?;
        let mut wakes: Vec<Wake> = Vec::new();
        let mut buffers = Buffers::default();
        let mut connecting = false;
        let mut stopping = false;
        // The guest may have filled the queues before we listened.
        let mut patience = Patience::Busy;
        loop {
            poll.wait(&mut wakes, patience)
                .map_err(DeviceError::host("wait for the vsock device"))?;
            for wake in &wakes {
                match wake.token {
                    Token::Stop => stopping = true,
                    // All queues are looked at below.
                    Token::Kick => {}
                    Token::Listener => connecting = true,
                    Token::Connection(port) => self
                        .muxer
                        .socket_ready(port, *wake, &poll)
                        .map_err(DeviceError::host("watch a vsock connection"))?,
                }
            }
            let knows_all = stopping || self.reset.go_on(activated)?;
            if connecting && knows_all {
                connecting =
                    self.accept(&poll).map_err(DeviceError::host("accept a vsock connection"))?;
            }
            if stopping {
                return self.serve_last(activated, &poll, &mut buffers);
            }
            let tx = self.serve_tx(activated, &poll, &mut buffers)?;
            let waited_for_room = !self.muxer.has_room();
            let rx = self.serve_rx(activated, &mut buffers)?;
            self.untold.tell(activated)?;
            let has_room_now = waited_for_room && self.muxer.has_room();
            let idle = tx == Served::All && rx == Served::All && !has_room_now;
            patience = match idle {
                false => Patience::Busy,
                true if self.untold.is_empty() => Patience::Idle,
                true => Patience::Short,
            };
        }
    }
}

impl fmt::Debug for Vsock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vsock")
            .field("cid", &u64::from_le_bytes(self.config))
            .finish_non_exhaustive()
    }
}

/// Whether the driver has just set up its queues, so that it knows of no connection.
fn is_fresh(activated: &Activated) -> bool {
    [RX, TX].iter().all(|queue| activated.queues[*queue].queue.next_avail() == 0)
}

fn device_error(error: MuxerError) -> DeviceError {
    match error {
        MuxerError::Memory(_) => DeviceError::Protocol { what: "a packet lies outside of memory" },
        MuxerError::Poll(source) => DeviceError::Host { what: "watch a vsock connection", source },
    }
}
