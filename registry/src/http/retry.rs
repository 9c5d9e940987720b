//! When to ask again, and how long to wait before.

use std::time::{Duration, SystemTime};

/// How patient a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The wait after the first failure; it doubles with every further one.
    pub(crate) first: Duration,
    /// The longest wait that a registry may ask for.
    pub(crate) longest: Duration,
    /// Requests in all where the registry answers that it is busy or in trouble, or breaks off.
    pub(crate) answered: u32,
    /// Requests in all where there is no connection.
    pub(crate) unreachable: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(60),
            answered: 5,
            unreachable: 3,
        }
    }
}

/// Why a request may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setback {
    /// An answer with this status, and the wait it asks for.
    Status(u16, Option<Duration>),
    /// No connection, or one that broke before the answer.
    Connection,
    /// An answer that broke off.
    BrokenOff,
}

impl Patience {
    /// The wait before the next request, after `failed` failures in a row; `None` to give up.
    pub(crate) fn wait(&self, setback: Setback, failed: u32) -> Option<Duration> {
        let asked = match setback {
            Setback::Status(429 | 500 | 502 | 503 | 504, asked) => asked,
            // RFC 9110: other 4xx stay what they are however often one asks.
            Setback::Status(..) => return None,
            Setback::Connection | Setback::BrokenOff => None,
        };
        let requests = match setback {
            Setback::Connection => self.unreachable,
            Setback::Status(..) | Setback::BrokenOff => self.answered,
        };
        if failed >= requests || asked.is_some_and(|asked| asked > self.longest) {
            return None;
        }
        let own = self.first.saturating_mul(1 << (failed.saturating_sub(1)).min(16));
        Some(asked.map_or(own, |asked| asked.max(self.first)).min(self.longest))
    }
}

/// RFC 9110, section 10.2.3: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = http_date(value)?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(then.saturating_sub(now))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as time since 1970; older forms of dates are not read.
fn http_date(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let mut parts = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + BEFORE[month] + day - 1
        + u64::from(is_leap && month > 1);
    Some(Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second.min(60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_and_end() {
        let patience = Patience::default();
        let waits: Vec<_> =
            (1..6).map(|failed| patience.wait(Setback::Status(503, None), failed)).collect();
        let wanted = [0.5, 1.0, 2.0, 4.0].map(|s| Some(Duration::from_secs_f64(s)));
        assert_eq!(waits[..4], wanted);
        assert_eq!(waits[4], None);
        assert_eq!(patience.wait(Setback::Connection, 3), None);
    }

    #[test]
    fn a_registry_may_ask_for_a_wait() {
        let patience = Patience::default();
        let after = |seconds| Setback::Status(429, Some(SECOND * seconds));
        assert_eq!(patience.wait(after(7), 1), Some(SECOND * 7));
        assert_eq!(patience.wait(after(0), 1), Some(patience.first));
        assert_eq!(patience.wait(after(3600), 1), None);
    }

    #[test]
    fn what_stays_wrong_is_asked_once() {
        for status in [400, 401, 403, 404, 416, 501] {
            assert_eq!(Patience::default().wait(Setback::Status(status, None), 1), None);
        }
    }

    #[test]
    fn waits_are_read_as_seconds_and_dates() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after("120", at(0)), Some(SECOND * 120));
        assert_eq!(retry_after(date, at(784_111_770)), Some(SECOND * 7));
        assert_eq!(retry_after(date, at(784_111_790)), Some(Duration::ZERO));
        assert_eq!(retry_after("Tue, 29 Feb 2028 00:00:01 GMT", at(1_835_395_200)), Some(SECOND));
        for text in ["", "soon", "-1", "Sun, 06 Nov 1994 08:49:37 CET", "a, b Nov c d:e:f GMT"] {
            assert_eq!(retry_after(text, at(0)), None, "{text}");
        }
    }
}
