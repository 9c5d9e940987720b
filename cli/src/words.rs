//! Sizes and times in the words Docker has for them (its go-units), and ids and labels as it shows them.

use std::collections::BTreeMap;
use std::time::Duration;

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.trim_start_matches("sha256:");
    digits.get(..12).unwrap_or(digits)
}

/// Labels in one cell: `colour=blue,size=large`.
pub(crate) fn pairs(labels: &BTreeMap<String, String>) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

/// A time of RFC 3339 in UTC as Go prints it: `2024-05-14 01:28:06 +0000 UTC`; other text as it is.
pub(crate) fn go_time(text: &str) -> String {
    match text.split_once('T') {
        Some((day, rest)) => {
            let time = rest.split(['.', 'Z']).next().unwrap_or_default();
            format!("{day} {time} +0000 UTC")
        }
        None => text.to_owned(),
    }
}

/// A size in decimal units with three digits: `117MB`, `1.24GB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut whole, mut unit) = (bytes, 0);
    // Thousandths of the unit are kept, so that three digits can be rounded.
    let mut thousandths = whole.saturating_mul(1000);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        thousandths = whole;
        whole /= 1000;
        unit += 1;
    }
    let digits = match (unit, whole) {
        (0, _) => return format!("{whole}B"),
        (_, 0..10) => 2,
        (_, 10..100) => 1,
        _ => 0,
    };
    let step = 10_u64.pow(3 - digits);
    let rounded = (thousandths + step / 2) / step;
    let scale = 10_u64.pow(digits);
    let width = digits as usize;
    let number = format!("{}.{:0width$}", rounded / scale, rounded % scale);
    let number = number.trim_end_matches('0').trim_end_matches('.');
    let number = if digits == 0 { (rounded / scale).to_string() } else { number.to_owned() };
    format!("{number}{}", UNITS[unit])
}

/// A size in binary units with four digits: `1.5MiB`, `512MiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut whole, mut unit) = (bytes, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        whole >>= 10;
        unit += 1;
    }
    if unit == 0 {
        return format!("{whole}B");
    }
    let digits = match whole {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    let scale = 10_u128.pow(digits);
    let divisor = 1_u128 << (10 * unit);
    let rounded = (u128::from(bytes) * scale + divisor / 2) / divisor;
    let width = digits as usize;
    let number = if digits == 0 {
        rounded.to_string()
    } else {
        let number = format!("{}.{:0width$}", rounded / scale, rounded % scale);
        number.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("{number}{}", UNITS[unit])
}

/// How long ago something was: `About an hour ago`, `3 weeks ago`.
pub(crate) fn ago(age: Duration) -> String {
    span(age) + " ago"
}

/// How long something takes: `About an hour`, `3 weeks`.
pub(crate) fn span(age: Duration) -> String {
    let seconds = age.as_secs();
    let minutes = seconds / 60;
    let hours = (minutes + 30) / 60;
    let days = hours / 24;
    match (seconds, minutes, hours, days) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, ..) => "About a minute".to_owned(),
        (_, 2..60, ..) => format!("{minutes} minutes"),
        (_, _, 1, _) => "About an hour".to_owned(),
        (_, _, 2..48, _) => format!("{hours} hours"),
        (_, _, _, 0..14) => format!("{days} days"),
        (_, _, _, 14..60) => format!("{} weeks", days / 7),
        (_, _, _, 60..730) => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_gos() {
        for (text, wanted) in [
            ("2024-05-14T01:28:06.123456789Z", "2024-05-14 01:28:06 +0000 UTC"),
            ("2024-05-14T01:28:06Z", "2024-05-14 01:28:06 +0000 UTC"),
            ("N/A", "N/A"),
        ] {
            assert_eq!(go_time(text), wanted);
        }
    }

    #[test]
    fn sizes_are_dockers() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (116_600_000, "117MB"),
            (1_236_000_000, "1.24GB"),
            (12_340_000, "12.3MB"),
            (100_000_000, "100MB"),
            (10_000_000, "10MB"),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(size(bytes), wanted);
        }
    }

    #[test]
    fn binary_sizes_are_dockers() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1_572_864, "1.5MiB"),
            (512 << 20, "512MiB"),
            (487_800_832, "465.2MiB"),
            (3_221_225_472, "3GiB"),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(binary_size(bytes), wanted);
        }
    }

    #[test]
    fn ages_are_dockers() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        let cases = [
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "About a minute ago"),
            (180, "3 minutes ago"),
            (HOUR, "About an hour ago"),
            (47 * HOUR, "47 hours ago"),
            (3 * DAY, "3 days ago"),
            (21 * DAY, "3 weeks ago"),
            (90 * DAY, "3 months ago"),
            (1000 * DAY, "2 years ago"),
        ];
        for (seconds, wanted) in cases {
            assert_eq!(ago(Duration::from_secs(seconds)), wanted, "{seconds}");
        }
    }
}
