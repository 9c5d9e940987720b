//! A table of times: median, least, most, and the ratio to one of them.

use std::time::Duration;

/// Of times in order.
pub(crate) fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

/// For people and for JSON.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The names of the columns.
pub(crate) fn head(title: &str) {
    println!("{title:24} {:>9} {:>9} {:>9} {:>7}", "median", "least", "most", "ratio");
}

/// One line; `times` are in order.
pub(crate) fn line(name: &str, times: &[Duration], yardstick: Duration) {
    let ratio = median(times).as_secs_f64() / yardstick.as_secs_f64();
    let shown = [median(times), times[0], times[times.len() - 1]].map(milliseconds);
    let [median, least, most] = shown;
    println!("{name:24} {median:>6.1} ms {least:>6.1} ms {most:>6.1} ms {ratio:>7.2}");
}
