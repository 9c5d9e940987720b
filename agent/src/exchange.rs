//! Where the threads that carry a process's bytes get other streams, when the machine turns out to be a copy
//! of the one in which theirs were opened.

use std::{
    os::fd::OwnedFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use protocol::StreamKind;

/// The way a thread carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// What the host sends.
    ToProcess,
    /// What the process writes.
    FromProcess,
}

/// What a thread carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Over which stream.
    pub(crate) kind: StreamKind,
    /// Which way.
    pub(crate) direction: Direction,
}

/// The streams of a process on their way to the threads that carry.
pub(crate) struct Exchange {
    /// Which streams the process needs.
    needed: &'static [StreamKind],
    /// Between the agent's own thread and those that carry.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether a stream that breaks may have been another machine's.
    is_suspended: bool,
    /// How often there were other streams.
    epoch: u32,
    /// Those that still carry.
    places: Vec<Place>,
    /// What waits for them.
    streams: Vec<(Place, OwnedFd)>,
}

impl Exchange {
    /// For a process with these streams.
    pub(crate) fn new(needed: &'static [StreamKind]) -> Self {
        Self { needed, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Which streams the process needs.
    pub(crate) fn needed(&self) -> &'static [StreamKind] {
        self.needed
    }

    /// From now on whoever has a stream that breaks waits until it is known why.
    pub(crate) fn suspend(&self) {
        self.state().is_suspended = true;
    }

    /// What has broken was this machine's.
    pub(crate) fn resume(&self) {
        self.state().is_suspended = false;
        self.changed.notify_all();
    }

    /// Gives everybody who still carries one of these streams; those that nobody needs are closed.
    pub(crate) fn renew(&self, streams: Vec<(StreamKind, OwnedFd)>) {
        let mut state = self.state();
        state.is_suspended = false;
        state.epoch += 1;
        state.streams.clear();
        for (kind, stream) in streams {
            for place in state.places.clone().into_iter().filter(|place| place.kind == kind) {
                // One that cannot be had is missed as one that was closed.
                state.streams.extend(stream.try_clone().map(|stream| (place, stream)));
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Somebody begins to carry.
    pub(crate) fn enter(&self, place: Place) {
        self.state().places.push(place);
    }

    /// Somebody needs no stream any more.
    pub(crate) fn leave(&self, place: Place) {
        let mut state = self.state();
        state.places.retain(|other| *other != place);
        state.streams.retain(|(other, _)| *other != place);
    }

    /// The next stream for somebody whose stream of this epoch has broken, which becomes the next's; none if
    /// there is none, since it was this machine's.
    pub(crate) fn next(&self, place: Place, epoch: &mut u32) -> Option<OwnedFd> {
        let mut state = self.state();
        while state.epoch == *epoch {
            if !state.is_suspended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let at = state.streams.iter().position(|(other, _)| *other == place)?;
        *epoch = state.epoch;
        Some(state.streams.swap_remove(at).1)
    }

    /// A thread that panicked has left it as it should be.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Write},
        os::unix::net::UnixStream,
        sync::Arc,
        thread,
    };

    const OUT: Place = Place { kind: StreamKind::Stdout, direction: Direction::FromProcess };
    const IN: Place = Place { kind: StreamKind::Stdin, direction: Direction::ToProcess };

    fn exchange() -> Arc<Exchange> {
        let exchange = Exchange::new(&[StreamKind::Stdin, StreamKind::Stdout]);
        exchange.enter(OUT);
        exchange.enter(IN);
        Arc::new(exchange)
    }

    #[test]
    fn a_stream_that_breaks_in_its_own_machine_is_the_last() {
        let exchange = exchange();
        assert!(exchange.next(OUT, &mut 0).is_none());
        exchange.suspend();
        let waits = exchange.clone();
        let waiting = thread::spawn(move || waits.next(OUT, &mut 0).is_none());
        exchange.resume();
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn everybody_who_carries_gets_its_own_and_no_other_is_left_open() {
        let exchange = exchange();
        exchange.suspend();
        let waits = exchange.clone();
        let waiting = thread::spawn(move || {
            let mut epoch = 0;
            (waits.next(OUT, &mut epoch), epoch)
        });
        exchange.leave(IN);
        let pairs = [StreamKind::Stdout, StreamKind::Stdin].map(|kind| {
            let (near, far) = UnixStream::pair().unwrap();
            ((kind, OwnedFd::from(near)), far)
        });
        let (near, mut far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        exchange.renew(near);
        let (stream, mut epoch) = waiting.join().unwrap();
        assert_eq!(epoch, 1);
        File::from(stream.unwrap()).write_all(b"x").unwrap();
        let mut read = [0; 2];
        assert_eq!(far[0].read(&mut read).unwrap(), 1);
        assert_eq!(far[1].read(&mut read).unwrap(), 0, "nobody needs it");
        assert!(exchange.next(OUT, &mut epoch).is_none(), "it is this machine's");
    }
}
