//! What the guest was given and what was taken from it, which it has not been told of. An interrupt holds a
//! guest up for longer than a packet does, and that its own packets were taken can wait: they only free
//! memory of its own.

use virtio_queue::QueueT;

use super::{RX, TX};
use crate::virtio::device::{Activated, DeviceError};

/// How many descriptors may be taken before the guest is told: a quarter of its queue, so that it never
/// waits for room in it.
const MOST: usize = 32;

/// News for the guest.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// It was given packets.
    given: bool,
    /// The descriptors of its packets that were taken.
    taken: usize,
    /// There are more of them than at the last look.
    has_grown: bool,
}

impl Untold {
    /// The guest was given a packet.
    pub(super) fn gave(&mut self) {
        self.given = true;
    }

    /// A packet of so many descriptors was taken, or one that has none that can be used.
    pub(super) fn took(&mut self, descriptors: usize) {
        self.taken += descriptors.max(1);
        self.has_grown = true;
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        !self.given && self.taken == 0
    }

    /// Interrupts the guest if it wants that, for what it was given, and for what was taken where that is
    /// told with it or can wait no longer.
    ///
    /// # Errors
    /// When the guest broke a queue.
    pub(super) fn tell(&mut self, activated: &mut Activated) -> Result<(), DeviceError> {
        let Activated { memory, queues, interrupt, .. } = activated;
        let mut wishes =
            |at: usize| queues[at].queue.needs_notification(memory).map_err(DeviceError::queue(at));
        let mut interrupts = std::mem::take(&mut self.given) && wishes(RX)?;
        if !self.can_wait() || interrupts {
            interrupts |= std::mem::take(&mut self.taken) > 0 && wishes(TX)?;
        }
        if interrupts {
            interrupt.signal_queue();
        }
        Ok(())
    }

    /// What was taken waits for more of the same, until a look at the queue has found no more.
    fn can_wait(&mut self) -> bool {
        std::mem::take(&mut self.has_grown) && self.taken < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_more_of_the_same_but_not_without_end() {
        let mut untold = Untold::default();
        assert!(untold.is_empty());
        for taken in 1..MOST {
            untold.took(1);
            assert!(untold.can_wait(), "{taken}");
        }
        assert!(!untold.can_wait(), "no more came");
        untold.took(1);
        assert!(!untold.can_wait(), "they are many");
        untold.took(0);
        assert!(!untold.is_empty());
    }
}
