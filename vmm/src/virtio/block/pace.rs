//! How fast a machine's disks are at most: requests that come too early are held until it is their
//! turn. Docker's `--device-read-bps` and its siblings.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use super::disk::Disk;
use super::request::{Direction, Request};
use super::{Block, ID_BYTES};
use crate::config::DiskLimits;
use crate::virtio::device::{Activated, DeviceError};
use crate::virtio::poll::{Poll, Wake};
use crate::virtio::rate::Rate;

/// The most requests that are held: a driver has no more in the ring.
const MAX_HELD: usize = 256;

/// The limits that all disks of a machine keep together.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Shared by the threads of the machine's disks.
    rates: Mutex<Rates>,
}

#[derive(Debug)]
struct Rates {
    read: Lane,
    write: Lane,
}

/// The limits of one direction.
#[derive(Debug)]
struct Lane {
    bytes: Rate,
    requests: Rate,
}

impl Pace {
    /// Limits that nothing has used by `now`; none where nothing is limited.
    pub(crate) fn new(limits: DiskLimits, now: Instant) -> Option<Self> {
        if limits == DiskLimits::default() {
            return None;
        }
        let rate = |per_second| Rate::new(per_second, now);
        let DiskLimits { read_bytes, write_bytes, read_requests, write_requests } = limits;
        let read = Lane { bytes: rate(read_bytes), requests: rate(read_requests) };
        let write = Lane { bytes: rate(write_bytes), requests: rate(write_requests) };
        Some(Self { rates: Mutex::new(Rates { read, write }) })
    }

    /// Lets a request of so many bytes begin, or says how long it has to wait.
    fn admit(&self, direction: Direction, bytes: u64, now: Instant) -> Result<(), Duration> {
        let mut rates = self.rates();
        let lane = match direction {
            Direction::Read => &mut rates.read,
            Direction::Write => &mut rates.write,
        };
        let wait = lane.bytes.wait(now).max(lane.requests.wait(now));
        if !wait.is_zero() {
            return Err(wait);
        }
        lane.bytes.take(bytes, now);
        lane.requests.take(1, now);
        Ok(())
    }

    /// A thread that panicked has left times, which are as good as any.
    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests that wait for their turn, each with the head of its chain. Those of one direction keep
/// their order.
#[derive(Debug, Default)]
struct Held<'m> {
    reads: VecDeque<(u16, Request<'m>)>,
    writes: VecDeque<(u16, Request<'m>)>,
}

/// What a request may do that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Wait for its turn.
    Kept,
    /// Begin at once: the device is to stop, and gives its queue back without debts.
    Released,
}

impl<'m> Held<'m> {
    fn len(&self) -> usize {
        self.reads.len() + self.writes.len()
    }

    fn add(&mut self, head: u16, request: Request<'m>) {
        match request.direction() {
            Some(Direction::Read) => self.reads.push_back((head, request)),
            _ => self.writes.push_back((head, request)),
        }
    }

    /// The next request that may begin, or how long none may; neither where none is held.
    fn next(&mut self, pace: &Pace, hold: Hold) -> Result<(u16, Request<'m>), Option<Duration>> {
        let mut shortest = None;
        for lane in [&mut self.reads, &mut self.writes] {
            let Some((_, request)) = lane.front() else { continue };
            let turn = match (hold, request.direction()) {
                (Hold::Kept, Some(direction)) => {
                    pace.admit(direction, request.bytes(), Instant::now())
                }
                _ => Ok(()),
            };
            match turn {
                Ok(()) => return lane.pop_front().ok_or(None),
                Err(wait) => {
                    shortest = Some(shortest.map_or(wait, |other: Duration| other.min(wait)))
                }
            }
        }
        Err(shortest)
    }
}

/// Serves a disk's queue at this pace, as [`super::VirtioDevice::run`] does.
pub(super) fn run(
    block: &mut Block,
    pace: &Pace,
    activated: &mut Activated,
) -> Result<(), DeviceError> {
    let memory = activated.memory.clone();
    let (mut poll, mut held) = (Poll::new(activated)?, Held::default());
    let mut patience = None;
    loop {
        let wake = poll.wait_at_most(activated, patience)?;
        let hold = if wake == Some(Wake::Stop) { Hold::Released } else { Hold::Kept };
        let Block { disk, id, .. } = &mut *block;
        patience = serve(activated, &memory, &mut held, (pace, hold), (disk, id))?;
        if hold == Hold::Released {
            return block.settle();
        }
    }
}

/// Takes what the guest has made available and serves what may begin; gives the time until the next
/// may. A guest that makes more available than its ring holds has to wait.
fn serve<'m>(
    activated: &mut Activated,
    memory: &'m GuestMemoryMmap,
    held: &mut Held<'m>,
    (pace, hold): (&Pace, Hold),
    (disk, id): (&mut Disk, &[u8; ID_BYTES]),
) -> Result<Option<Duration>, DeviceError> {
    let broken = |source| DeviceError::Queue { queue: 0, source };
    let queue = &mut activated.queues[0].queue;
    loop {
        queue.disable_notification(memory).map_err(broken)?;
        while held.len() < MAX_HELD {
            let Some(chain) = queue.iter(memory).map_err(broken)?.next() else { break };
            held.add(chain.head_index(), Request::parse(memory, chain)?);
        }
        let mut served = false;
        let patience = loop {
            let (head, request) = match held.next(pace, hold) {
                Ok(next) => next,
                Err(patience) => break patience,
            };
            let written = request.serve(disk, id)?;
            queue.add_used(memory, head, written).map_err(broken)?;
            served = true;
        };
        if served && queue.needs_notification(memory).map_err(broken)? {
            activated.interrupt.signal_queue();
        }
        if held.len() == MAX_HELD || !queue.enable_notification(memory).map_err(broken)? {
            return Ok(patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(limits: DiskLimits) -> (Pace, Instant) {
        let now = Instant::now();
        (Pace::new(limits, now).expect("something is limited"), now)
    }

    #[test]
    fn nothing_limited_is_no_pace() {
        assert!(Pace::new(DiskLimits::default(), Instant::now()).is_none());
    }

    #[test]
    fn bytes_and_requests_are_counted_by_direction() {
        let limits = DiskLimits {
            read_bytes: Some(1000),
            write_requests: Some(10),
            ..DiskLimits::default()
        };
        let (pace, now) = pace(limits);
        let at = |ms| now + Duration::from_millis(ms);
        let wait = |ms| Err(Duration::from_millis(ms));
        // A request is let through as a whole, and those behind it pay.
        assert_eq!(pace.admit(Direction::Read, 2000, at(0)), Ok(()));
        assert_eq!(pace.admit(Direction::Read, 1, at(0)), wait(1900));
        assert_eq!(pace.admit(Direction::Read, 1, at(1800)), wait(100));
        assert_eq!(pace.admit(Direction::Read, 100, at(1900)), Ok(()));
        assert_eq!(pace.admit(Direction::Read, 1, at(1900)), wait(100));
        // Writes have a limit of their own: of their number.
        assert_eq!(pace.admit(Direction::Write, 1 << 40, at(0)), Ok(()));
        assert_eq!(pace.admit(Direction::Write, 1 << 40, at(0)), Ok(()));
        assert_eq!(pace.admit(Direction::Write, 0, at(0)), wait(100));
        assert_eq!(pace.admit(Direction::Write, 0, at(100)), Ok(()));
    }

    #[test]
    fn a_rest_saves_up_a_tenth_of_a_second_only() {
        let (pace, now) = pace(DiskLimits { read_requests: Some(100), ..DiskLimits::default() });
        let later = now + Duration::from_secs(3600);
        let through = (0..1000).take_while(|_| pace.admit(Direction::Read, 1, later).is_ok());
        assert_eq!(through.count(), 11);
    }

    #[test]
    fn no_cost_is_beyond_the_clock() {
        let (pace, now) = pace(DiskLimits { write_bytes: Some(1), ..DiskLimits::default() });
        for at in 0..3 {
            let now = now + Duration::from_secs(at << 34);
            let _ = pace.admit(Direction::Write, u64::MAX, now);
        }
        assert!(pace.admit(Direction::Write, 1, now).is_err());
    }
}
