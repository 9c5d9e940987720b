//! Says things to the person at the terminal while a container runs: on stderr, never on stdout.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line of one kind: `warning`, `debug`. Where stderr is closed nobody listens, and
/// nothing is lost.
pub(crate) fn say(kind: &str, line: impl Display) {
    // A terminal in raw mode does not go back to the first column by itself; elsewhere nothing
    // but a terminal is ever raw.
    let end = if crate::attach::is_raw() { "\r\n" } else { "\n" };
    let _ = io::stderr().lock().write_all(format!("{kind}: {line}{end}").as_bytes());
}

/// Writes a line as it is.
pub(crate) fn tell(line: impl Display) {
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Passes on what the guest's kernel prints; a UART ends its lines with both characters.
pub(crate) fn pass_on(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}
