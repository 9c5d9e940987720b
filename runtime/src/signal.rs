//! Signals by name or number, as `kill -s`, `stop -s` and an image's `STOPSIGNAL` have them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The names of the signals of x86-64 Linux, by their numbers (signal(7)).
const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("IOT", 6),
    ("POLL", 29),
];
/// The first and the last real-time signal, as the C library counts them.
const REAL_TIME: (i32, i32) = (34, 64);

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalNumber(i32);

/// Text that names no signal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid signal: {0}")]
pub struct SignalError(String);

impl SignalNumber {
    /// What `stop` sends when nobody says otherwise.
    pub const TERM: Self = Self(15);
    /// What ends whatever does not end by itself.
    pub const KILL: Self = Self(9);

    /// Its number on x86-64 Linux.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for SignalNumber {
    type Err = SignalError;

    /// `SIGTERM`, `term`, `15`, `RTMIN+3`, `SIGRTMAX-2`.
    fn from_str(text: &str) -> Result<Self, SignalError> {
        let invalid = || SignalError(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            let known = (1..=REAL_TIME.1).contains(&number);
            return known.then_some(Self(number)).ok_or_else(invalid);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let offset = |rest: &str, sign: char| -> Option<i32> {
            if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse().ok() }
        };
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => offset(rest, '+').map(|more| REAL_TIME.0.saturating_add(more)),
            (_, Some(rest)) => offset(rest, '-').map(|less| REAL_TIME.1.saturating_sub(less)),
            _ => None,
        };
        let real_time = REAL_TIME.0..=REAL_TIME.1;
        number.filter(|number| real_time.contains(number)).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(formatter, "SIG{name}"),
            None => write!(formatter, "SIGRTMIN+{}", self.0 - REAL_TIME.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let cases = [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("Kill", 9),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-2", 62),
            ("64", 64),
        ];
        for (text, number) in cases {
            assert_eq!(text.parse::<SignalNumber>().map(SignalNumber::number), Ok(number));
        }
        for text in ["", "0", "65", "-1", "SIG", "TERMINATE", "RTMIN-1", "RTMIN+31", "RTMAX+1"] {
            assert!(text.parse::<SignalNumber>().is_err(), "{text}");
        }
        assert_eq!(SignalNumber(9).to_string(), "SIGKILL");
        assert_eq!(SignalNumber(37).to_string(), "SIGRTMIN+3");
    }
}
