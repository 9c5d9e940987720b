//! What a supervisor must not wait for for ever.

use std::time::{Duration, Instant};

/// Something that should have happened by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The guest should be ready.
    Ready,
    /// The guest should have answered a knock.
    Answered,
    /// The agent should have answered a question.
    Replied,
    /// The program should have begun.
    Started,
    /// A process that was asked for beside it should have begun.
    Begun,
    /// The machine of an agent that has hung up should have ended.
    Gone,
    /// The program was asked to end, and should have.
    Stopped,
    /// It was killed, and whoever is attached should have taken what it wrote.
    Drained,
    /// It was killed, and its end should have been told.
    Killed,
    /// The program's health is to be checked.
    Check,
    /// A check should have ended.
    Checked,
    /// The log's latest lines should be read by whoever wants to.
    Shown,
    /// The container should stand still for its snapshot, or go on after it.
    Stilled,
    /// The container has ended, and what it wrote should be on its disks.
    Synced,
}

/// The alarms that are set.
#[derive(Debug, Default)]
pub(super) struct Alarms(Vec<(Instant, Alarm)>);

impl Alarms {
    /// Sets an alarm, in the place of an earlier one of its kind.
    pub(super) fn set(&mut self, alarm: Alarm, after: Duration) {
        self.clear(alarm);
        // What is beyond all time never comes.
        if let Some(at) = Instant::now().checked_add(after) {
            self.0.push((at, alarm));
        }
    }

    /// Takes an alarm back.
    pub(super) fn clear(&mut self, alarm: Alarm) {
        self.0.retain(|(_, set)| *set != alarm);
    }

    /// Takes all alarms back.
    pub(super) fn clear_all(&mut self) {
        self.0.clear();
    }

    /// The time until the next one; none if there is none.
    pub(super) fn next(&self) -> Option<Duration> {
        let next = self.0.iter().map(|(at, _)| *at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// One whose time has come.
    pub(super) fn take_due(&mut self) -> Option<Alarm> {
        // Where it takes an exit to the host, a look at the clock is dear.
        if self.0.is_empty() {
            return None;
        }
        let now = Instant::now();
        let at = self.0.iter().position(|(at, _)| *at <= now)?;
        Some(self.0.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_go_off_once() {
        let mut alarms = Alarms::default();
        assert_eq!((alarms.next(), alarms.take_due()), (None, None));
        alarms.set(Alarm::Ready, Duration::from_secs(1000));
        alarms.set(Alarm::Killed, Duration::MAX);
        assert!(alarms.next().unwrap() > Duration::from_secs(900));
        assert_eq!(alarms.take_due(), None);
        alarms.set(Alarm::Ready, Duration::ZERO);
        assert_eq!(alarms.next(), Some(Duration::ZERO));
        assert_eq!(alarms.take_due(), Some(Alarm::Ready));
        assert_eq!(alarms.take_due(), None);
        alarms.set(Alarm::Stopped, Duration::ZERO);
        alarms.clear(Alarm::Stopped);
        assert_eq!(alarms.take_due(), None);
    }
}
