//! A connection that was let in, and its continuation into the container: bytes both ways, each way
//! with an end of its own.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{Shutdown, connect, shutdown, sockopt};

use super::door::streaming_socket;
use super::pipes::{Pipe, Pipes};

/// The most that one connection moves before others have their turn, in bytes.
const TURN_BYTES: usize = 1 << 20;
/// How long nothing comes until it is asked whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A client and the program that it talks to.
#[derive(Debug)]
pub(super) struct Relay {
    client: TcpStream,
    program: TcpStream,
    is_connected: bool,
    in_going: Way,
    out_going: Way,
}

/// One way of two.
#[derive(Debug, Default)]
struct Way {
    /// Bytes that found no room.
    pipe: Option<Pipe>,
    end: WayEnd,
}

/// How far a way has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WayEnd {
    /// More may come.
    #[default]
    Open,
    /// All has come, not all has gone.
    Draining,
    /// All has gone, and the other side knows.
    Over,
    /// The other side takes no more.
    Refused,
}

/// What is next for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The kernel tells when there is something to do.
    Wait,
    /// It has had its turn, and wants another.
    Turn,
    /// It is over.
    Close,
}

/// One of the two sides is gone.
struct Broken;

impl Relay {
    /// Begins to connect to the program.
    ///
    /// # Errors
    /// When there is no socket for that; the client is gone then, and told so.
    pub(super) fn begin(client: TcpStream, target: SocketAddr) -> Result<Self, Errno> {
        let program = streaming_socket(target).and_then(|program| {
            match connect(&program, &target) {
                Err(Errno::INPROGRESS) | Ok(()) => {}
                Err(error) => return Err(error),
            }
            Ok(TcpStream::from(program))
        });
        let program = match program {
            Ok(program) => program,
            Err(error) => {
                reset(&client);
                return Err(error);
            }
        };
        prepare(&client);
        prepare(&program);
        let (in_going, out_going) = Default::default();
        Ok(Self { client, program, is_connected: false, in_going, out_going })
    }

    /// Both sides, to wait for.
    pub(super) fn sockets(&self) -> [&TcpStream; 2] {
        [&self.client, &self.program]
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self, pipes: &mut Pipes) -> Next {
        match self.try_turn(pipes) {
            Ok(next) => next,
            Err(Broken) => {
                reset(&self.client);
                reset(&self.program);
                Next::Close
            }
        }
    }

    fn try_turn(&mut self, pipes: &mut Pipes) -> Result<Next, Broken> {
        if !self.is_connected {
            if !matches!(sockopt::socket_error(&self.program), Ok(Ok(()))) {
                return Err(Broken);
            }
            if self.program.peer_addr().is_err() {
                return Ok(Next::Wait);
            }
            self.is_connected = true;
        }
        let first = self.in_going.advance(&self.client, &self.program, pipes)?;
        let second = self.out_going.advance(&self.program, &self.client, pipes)?;
        if self.in_going.is_over() && self.out_going.is_over() {
            return match self.in_going.end == WayEnd::Over && self.out_going.end == WayEnd::Over {
                true => Ok(Next::Close),
                false => Err(Broken),
            };
        }
        Ok(if first == Next::Turn || second == Next::Turn { Next::Turn } else { Next::Wait })
    }
}

impl Way {
    fn is_over(&self) -> bool {
        matches!(self.end, WayEnd::Over | WayEnd::Refused)
    }

    fn advance(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        pipes: &mut Pipes,
    ) -> Result<Next, Broken> {
        if self.is_over() {
            return Ok(Next::Wait);
        }
        let pipe = self.pipe.take().map_or_else(|| pipes.take(), Ok);
        let mut pipe = pipe.map_err(|_| Broken)?;
        let next = self.move_through(&mut pipe, from, to);
        match pipe.held() {
            0 => pipes.give_back(pipe),
            _ if self.is_over() => {}
            _ => self.pipe = Some(pipe),
        }
        next
    }

    fn move_through(
        &mut self,
        pipe: &mut Pipe,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Result<Next, Broken> {
        let mut moved = 0;
        while moved < TURN_BYTES {
            match pipe.drain(to) {
                Ok(()) => {}
                Err(Errno::AGAIN) => return Ok(Next::Wait),
                // What the other side has still to say is heard.
                Err(_) => {
                    self.end = WayEnd::Refused;
                    return Ok(Next::Wait);
                }
            }
            if self.end == WayEnd::Draining {
                self.end = WayEnd::Over;
                // Fails only for one that is gone, which reading tells.
                let _ = shutdown(to, Shutdown::Write);
                return Ok(Next::Wait);
            }
            match pipe.fill(from) {
                Ok(0) => self.end = WayEnd::Draining,
                Ok(count) => moved += count,
                Err(Errno::AGAIN) => return Ok(Next::Wait),
                Err(_) => return Err(Broken),
            }
        }
        Ok(Next::Turn)
    }
}

/// Small pieces go at once, and who vanishes is missed. Fails for nobody who is still there.
fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE);
}

/// When it is closed the other side shall hear that this was no ordinary end.
fn reset(socket: &impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
