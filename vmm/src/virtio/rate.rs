//! How much of something may happen in each second.
//!
//! A limit is a bucket of tokens that is never counted: what is kept is the moment at which all that
//! was let through is paid for (the generic cell rate algorithm of ATM, ITU-T I.371). What comes may
//! begin a little before that moment, and moves it by what it costs.

use std::time::{Duration, Instant};

/// How long before its time something may begin: what a limit lets through at once after a rest.
const AHEAD: Duration = Duration::from_millis(100);

/// So many units in each second, or without end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    per_second: Option<u64>,
    /// When all that was let through is paid for.
    paid: Instant,
}

impl Rate {
    /// A limit that nothing has used.
    pub(crate) fn new(per_second: Option<u64>, now: Instant) -> Self {
        Self { per_second, paid: now }
    }

    /// Whether there is one.
    pub(crate) fn is_limited(&self) -> bool {
        self.per_second.is_some()
    }

    /// How long nothing more may begin.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        match self.per_second {
            Some(_) => self.paid.saturating_duration_since(now + AHEAD),
            None => Duration::ZERO,
        }
    }

    /// Lets so many units through.
    pub(crate) fn take(&mut self, units: u64, now: Instant) {
        let Some(per_second) = self.per_second else { return };
        let nanoseconds = u128::from(units) * 1_000_000_000 / u128::from(per_second.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        // Beyond what a clock can hold nobody waits anyway.
        let paid = self.paid.max(now);
        self.paid = paid.checked_add(cost).unwrap_or(paid);
    }
}
