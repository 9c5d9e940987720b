//! Reads `--expose PORT[-PORT][/PROTOCOL]`, and has what every port of a container is made of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a port is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of a container, as `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Its number.
    pub number: u16,
    /// What it is of.
    pub protocol: Protocol,
}

/// One `--expose`: some ports in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose(pub Vec<ContainerPort>);

/// The first of some ports in a row, and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, which is not below the first.
    pub last: u16,
}

/// Text that is no range of ports; Docker's words, and Go's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PortRangeError {
    /// Nothing.
    #[error("empty string specified for ports")]
    Empty,
    /// Something else than a number.
    #[error("strconv.ParseUint: parsing {0:?}: invalid syntax")]
    Number(String),
    /// A number that no port has.
    #[error("strconv.ParseUint: parsing {0:?}: value out of range")]
    Large(String),
    /// It ends before it begins.
    #[error("invalid range specified for port: {0}")]
    Backwards(String),
}

/// Text that is no port of a container; Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExposeError {
    /// A port of the host too, which is `-p`'s business.
    #[error("invalid port format for --expose: {0}")]
    Format(String),
    /// No range.
    #[error("invalid range format for --expose: {text}, error: {source}")]
    Range {
        /// As it was typed.
        text: String,
        /// Why not.
        source: PortRangeError,
    },
    /// Neither TCP nor UDP.
    #[error("invalid proto: {0}")]
    Protocol(String),
}

impl ContainerPort {
    /// Those that an image exposes; what makes no sense there is as good as not said.
    #[must_use]
    pub fn of_image(exposed: &str) -> Vec<Self> {
        exposed.parse().map_or_else(|_| Vec::new(), |Expose(ports)| ports)
    }
}

impl PortRange {
    /// How many ports there are.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// The numbers.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        if text.is_empty() {
            return Err(PortRangeError::Empty);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(PortRangeError::Backwards(text.to_owned()));
        }
        Ok(Self { first, last })
    }
}

/// A port's number, in digits alone: Rust would take a sign too.
fn number(text: &str) -> Result<u16, PortRangeError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PortRangeError::Number(text.to_owned()));
    }
    text.parse().map_err(|_| PortRangeError::Large(text.to_owned()))
}

/// What stands before the protocol, and the protocol: TCP where none is named.
pub(super) fn split_protocol(text: &str) -> (&str, Result<Protocol, &str>) {
    match text.split_once('/') {
        None | Some((_, "")) => (text.trim_end_matches('/'), Ok(Protocol::Tcp)),
        Some((ports, protocol)) => (ports, protocol.parse().map_err(|()| protocol)),
    }
}

impl FromStr for Expose {
    type Err = ExposeError;

    fn from_str(text: &str) -> Result<Self, ExposeError> {
        if text.contains(':') {
            return Err(ExposeError::Format(text.to_owned()));
        }
        let (range, protocol) = split_protocol(text);
        let range: PortRange =
            range.parse().map_err(|source| ExposeError::Range { text: text.to_owned(), source })?;
        let protocol = protocol.map_err(|word| ExposeError::Protocol(word.to_owned()))?;
        Ok(Self(range.ports().map(|number| ContainerPort { number, protocol }).collect()))
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(formatter, "{}", self.first),
            false => write!(formatter, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(text: &str) -> Result<String, String> {
        let ports: Expose = text.parse().map_err(|error: ExposeError| error.to_string())?;
        Ok(ports.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ports_are_exposed_one_by_one_or_in_rows() {
        for (text, wanted) in [
            ("80", "80/tcp"),
            ("80/", "80/tcp"),
            ("80/tcp", "80/tcp"),
            ("53/UDP", "53/udp"),
            ("7000-7002", "7000/tcp 7001/tcp 7002/tcp"),
            ("65535-65535/udp", "65535/udp"),
        ] {
            assert_eq!(exposed(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_exposed_is_said() {
        let range = |text: &str, why: &str| {
            format!("invalid range format for --expose: {text}, error: {why}")
        };
        let syntax = |word: &str| format!("strconv.ParseUint: parsing {word:?}: invalid syntax");
        for (text, wanted) in [
            ("80:80", "invalid port format for --expose: 80:80".to_owned()),
            ("", range("", "empty string specified for ports")),
            ("/udp", range("/udp", "empty string specified for ports")),
            ("http", range("http", &syntax("http"))),
            ("+80", range("+80", &syntax("+80"))),
            ("80-", range("80-", &syntax(""))),
            ("65536", range("65536", "strconv.ParseUint: parsing \"65536\": value out of range")),
            ("8-7", range("8-7", "invalid range specified for port: 8-7")),
            ("80/sctp", "invalid proto: sctp".to_owned()),
        ] {
            assert_eq!(exposed(text), Err(wanted), "{text}");
        }
    }

    #[test]
    fn what_an_image_says_wrong_is_not_exposed() {
        assert_eq!(ContainerPort::of_image("80/tcp").len(), 1);
        assert!(ContainerPort::of_image("http").is_empty());
        assert!(ContainerPort::of_image("80/sctp").is_empty());
    }
}
