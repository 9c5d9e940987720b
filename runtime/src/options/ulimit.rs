//! Reads `--ulimit NAME=SOFT[:HARD]`.

use std::str::FromStr;

use protocol::ResourceLimit;
use thiserror::Error;

/// Docker's names (go-units), each with its `RLIMIT_…` on x86-64 (asm-generic/resource.h).
const NAMES: [(&str, u32); 15] = [
    ("core", 4),
    ("cpu", 0),
    ("data", 2),
    ("fsize", 1),
    ("locks", 10),
    ("memlock", 8),
    ("msgqueue", 12),
    ("nice", 13),
    ("nofile", 7),
    ("nproc", 6),
    ("rss", 5),
    ("rtprio", 14),
    ("rttime", 15),
    ("sigpending", 11),
    ("stack", 3),
];

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit(pub ResourceLimit);

/// Why text is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UlimitError {
    /// No `NAME=SOFT` or `NAME=SOFT:HARD`.
    #[error("invalid ulimit argument: {0}")]
    Argument(String),
    /// A name that no limit has.
    #[error("invalid ulimit type: {0}")]
    Type(String),
    /// A process could not begin with it.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    Order {
        /// What was asked for as the soft limit.
        soft: String,
        /// And as the hard one.
        hard: String,
    },
}

/// The name of a limit that `--ulimit` knows.
#[must_use]
pub fn ulimit_name(resource: u32) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == resource).map_or("", |(name, _)| name)
}

impl FromStr for Ulimit {
    type Err = UlimitError;

    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let wrong = || UlimitError::Argument(text.to_owned());
        let (name, values) = text.split_once('=').ok_or_else(wrong)?;
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let (_, resource) = known.ok_or_else(|| UlimitError::Type(name.to_owned()))?;
        let (soft_text, hard_text) = values.split_once(':').unwrap_or((values, values));
        let soft = number(soft_text).ok_or_else(wrong)?;
        let hard = number(hard_text).ok_or_else(wrong)?;
        if soft > hard {
            let (soft, hard) = (soft_text.to_owned(), hard_text.to_owned());
            return Err(UlimitError::Order { soft, hard });
        }
        Ok(Self(ResourceLimit { resource: *resource, soft, hard }))
    }
}

/// -1 is no limit: `RLIM_INFINITY`, the largest number.
fn number(text: &str) -> Option<u64> {
    match text {
        "-1" => Some(u64::MAX),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_dockers() {
        for (text, resource, soft, hard) in [
            ("nofile=1024", 7, 1024, 1024),
            ("nofile=1024:2048", 7, 1024, 2048),
            ("core=0", 4, 0, 0),
            ("memlock=-1", 8, u64::MAX, u64::MAX),
            ("nproc=5:-1", 6, 5, u64::MAX),
            ("stack=8388608:-1", 3, 8_388_608, u64::MAX),
        ] {
            let wanted = ResourceLimit { resource, soft, hard };
            assert_eq!(text.parse(), Ok(Ulimit(wanted)), "{text}");
        }
    }

    #[test]
    fn what_is_no_limit_is_said() {
        for (text, wanted) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("nofile=", "invalid ulimit argument: nofile="),
            ("nofile=a", "invalid ulimit argument: nofile=a"),
            ("nofile=1:2:3", "invalid ulimit argument: nofile=1:2:3"),
            ("nofile=-2", "invalid ulimit argument: nofile=-2"),
            ("files=1", "invalid ulimit type: files"),
            ("=1", "invalid ulimit type: "),
            ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
            ("nofile=-1:1", "ulimit soft limit must be less than or equal to hard limit: -1 > 1"),
        ] {
            assert_eq!(text.parse::<Ulimit>().unwrap_err().to_string(), wanted, "{text}");
        }
    }
}
