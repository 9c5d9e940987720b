//! What the vsock device waits for: one epoll with a name for each thing.

use std::io;
use std::os::fd::AsRawFd;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// How many wakes are taken at once.
const BATCH: usize = 64;
/// How long something waits that is to happen together with something else.
const SHORT_MS: i32 = 5;
/// Tokens from here on are connections: the host's port is added.
const FIRST_CONNECTION: u64 = 1 << 32;

/// An epoll.
#[derive(Debug)]
pub(super) struct Poll {
    epoll: Epoll,
    events: [EpollEvent; BATCH],
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// The order to stop.
    Stop,
    /// The guest has notified a queue. Edge-triggered, so its counter is never read.
    Kick,
    /// Someone connects.
    Listener,
    /// The Unix socket of the connection with this port of the host.
    Connection(u32),
}

/// How a socket is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// As long as it is readable.
    Level,
    /// When it becomes readable.
    Readable,
    /// When it becomes readable or writable.
    ReadableOrWritable,
}

/// What happened to what is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake {
    pub(super) token: Token,
    /// A read returns something: data, the end, or an error.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Nothing flows either way any more, but for what can still be read.
    pub(super) hung_up: bool,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// There is more to do: only look what has happened.
    Busy,
    /// Until something happens, or for [`SHORT_MS`].
    Short,
    /// Until something happens.
    Idle,
}

impl Poll {
    /// An epoll that watches nothing yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new()?, events: [EpollEvent::default(); BATCH] })
    }

    /// Watches `source` until it is closed.
    pub(super) fn watch(
        &self,
        source: &impl AsRawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.control(ControlOperation::Add, source, token, interest)
    }

    /// Watches a watched `source` in another way. What it is ready for is told again.
    pub(super) fn rewatch(
        &self,
        source: &impl AsRawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.control(ControlOperation::Modify, source, token, interest)
    }

    /// Replaces `wakes` by what has happened.
    pub(super) fn wait(&mut self, wakes: &mut Vec<Wake>, patience: Patience) -> io::Result<()> {
        let timeout_ms = match patience {
            Patience::Busy => 0,
            Patience::Short => SHORT_MS,
            Patience::Idle => -1,
        };
        wakes.clear();
        match self.epoll.wait(timeout_ms, &mut self.events) {
            Ok(count) => wakes.extend(self.events[..count].iter().map(Wake::new)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn control(
        &self,
        operation: ControlOperation,
        source: &impl AsRawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let event = EpollEvent::new(interest.events(), token.data());
        self.epoll.ctl(operation, source.as_raw_fd(), event)
    }
}

impl Token {
    fn data(self) -> u64 {
        match self {
            Self::Stop => 0,
            Self::Kick => 1,
            Self::Listener => 2,
            Self::Connection(port) => FIRST_CONNECTION + u64::from(port),
        }
    }

    fn from_data(data: u64) -> Self {
        match data {
            0 => Self::Stop,
            1 => Self::Kick,
            2 => Self::Listener,
            connection => {
                let port = u32::try_from(connection - FIRST_CONNECTION);
                Self::Connection(port.expect("only `data` makes tokens"))
            }
        }
    }
}

impl Interest {
    fn events(self) -> EventSet {
        match self {
            Self::Level => EventSet::IN,
            Self::Readable => EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED,
            Self::ReadableOrWritable => Self::Readable.events() | EventSet::OUT,
        }
    }
}

impl Wake {
    fn new(event: &EpollEvent) -> Self {
        let events = event.event_set();
        let ended = EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR;
        Self {
            token: Token::from_data(event.data()),
            readable: events.intersects(EventSet::IN | ended),
            writable: events.contains(EventSet::OUT),
            hung_up: events.intersects(EventSet::HANG_UP | EventSet::ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Stop,
            Token::Kick,
            Token::Listener,
            Token::Connection(0),
            Token::Connection(u32::MAX),
        ] {
            assert_eq!(Token::from_data(token.data()), token);
        }
    }
}
