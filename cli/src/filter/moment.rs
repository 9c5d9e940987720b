//! Times as Docker's filters take them: an age, seconds since 1970, or a date.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use images::parse_rfc3339;

/// A point in time, perhaps as seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Ago(Duration),
    At(SystemTime),
}

impl Moment {
    /// The time itself; `None` if the clock does not reach back that far.
    pub(super) fn from(self, now: SystemTime) -> Option<SystemTime> {
        match self {
            Moment::Ago(age) => now.checked_sub(age),
            Moment::At(time) => Some(time),
        }
    }
}

impl FromStr for Moment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(age) = duration(text) {
            return Ok(Moment::Ago(age));
        }
        if let Some(since) = seconds(text) {
            return UNIX_EPOCH.checked_add(since).map(Moment::At).ok_or(());
        }
        // Without a zone, UTC; without a time, midnight.
        let tries = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00:00Z")];
        tries.iter().find_map(|text| parse_rfc3339(text)).map(Moment::At).ok_or(())
    }
}

/// `1715650086`, or `1715650086.123456789`.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let nanos = format!("{fraction:0<9.9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanos))
}

/// Go's durations: `1h30m`, `1.5h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dockers() {
        let ago = |seconds| Ok(Moment::Ago(Duration::from_secs(seconds)));
        let at = |seconds| Ok(Moment::At(UNIX_EPOCH + Duration::from_secs(seconds)));
        for (text, wanted) in [
            ("24h", ago(86_400)),
            ("1h30m", ago(5400)),
            ("1.5h", ago(5400)),
            ("10s", ago(10)),
            ("1715650086", at(1_715_650_086)),
            ("2024-05-14T01:28:06Z", at(1_715_650_086)),
            ("2024-05-14T01:28:06", at(1_715_650_086)),
            ("2024-05-14", at(1_715_644_800)),
            ("", Err(())),
            ("h", Err(())),
            ("10", at(10)),
            ("10.5", Ok(Moment::At(UNIX_EPOCH + Duration::from_millis(10_500)))),
            ("10.", Err(())),
            ("10x", Err(())),
            ("99999999999999999999h", Err(())),
            ("1.2.3h", Err(())),
            ("yesterday", Err(())),
        ] {
            assert_eq!(text.parse(), wanted, "{text}");
        }
    }
}
