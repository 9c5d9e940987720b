//! When a container that has ended is started again, and after how long: a policy, and a back-off.

use std::time::Duration;

use crate::keeping::RestartPolicy;

/// The first wait, and the longest; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A program that has run for so long begins with the first wait again.
const SOUND: Duration = Duration::from_secs(10);

/// How a program has run, as far as its policy is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The code, as a shell shows it.
    pub(super) code: u8,
    /// How long it has run.
    pub(super) ran_for: Duration,
    /// How often it was started again before.
    pub(super) restarts: u32,
}

/// The waits so far.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// How long to wait until a program that has ended is started again; none if it is not.
    pub(super) fn after(&mut self, run: Run, policy: RestartPolicy) -> Option<Duration> {
        let wait = match self.last.filter(|_| run.ran_for < SOUND) {
            None => FIRST,
            Some(last) => (last * 2).min(LONGEST),
        };
        self.last = Some(wait);
        policy.starts_again(run.code, run.restarts).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Run = Run { code: 1, ran_for: Duration::from_secs(1), restarts: 0 };

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_sound_run() {
        let mut backoff = Backoff::default();
        let mut wait = |ran_for| {
            let run = Run { ran_for, ..FAILED };
            backoff.after(run, RestartPolicy::Always).unwrap().as_millis()
        };
        let short = Duration::from_millis(9_999);
        let waits: Vec<_> = (0..12).map(|_| wait(short)).collect();
        let wanted = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(waits, wanted);
        assert_eq!(wait(Duration::from_secs(10)), 100);
        assert_eq!(wait(short), 200);
    }

    #[test]
    fn policies_are_dockers() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let well = Run { code: 0, ..FAILED };
        let often = Run { restarts: 3, ..FAILED };
        for (policy, run, wanted) in [
            (No, FAILED, false),
            (Always, FAILED, true),
            (Always, well, true),
            (Always, often, true),
            (UnlessStopped, well, true),
            (OnFailure(None), FAILED, true),
            (OnFailure(None), well, false),
            (OnFailure(None), often, true),
            (OnFailure(Some(0)), often, true),
            (OnFailure(Some(4)), often, true),
            (OnFailure(Some(3)), often, false),
        ] {
            let waits = Backoff::default().after(run, policy).is_some();
            assert_eq!(waits, wanted, "{policy:?} {run:?}");
        }
    }
}
