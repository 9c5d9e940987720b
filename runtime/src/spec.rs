//! What a person asked for when they said `hyperrun run`: words already understood, nothing decided.

use std::fmt;
use std::str::FromStr;

use protocol::WindowSize;
use thiserror::Error;

use crate::limits::{Cpus, MemorySize, ScratchSize};
use crate::options::Options;

/// One `hyperrun run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// The image as it was named: a reference, or an id or the beginning of one.
    pub image: String,
    /// `--pull`.
    pub pull: PullPolicy,
    /// What stands behind the image: the command, or arguments of the entrypoint.
    pub command: Vec<Vec<u8>>,
    /// `--entrypoint`; an empty one takes the image's away.
    pub entrypoint: Option<Vec<u8>>,
    /// `-e`, in order.
    pub env: Vec<EnvChange>,
    /// `-w`.
    pub working_dir: Option<String>,
    /// `-u`, as `USER[:GROUP]`.
    pub user: Option<String>,
    /// `--name`.
    pub name: Option<ContainerName>,
    /// `--hostname`.
    pub hostname: Option<Hostname>,
    /// `-m`.
    pub memory: MemorySize,
    /// `--cpus`.
    pub cpus: Cpus,
    /// `--storage-opt size=`.
    pub scratch: ScratchSize,
    /// `--read-only`.
    pub read_only: bool,
    /// What else was asked for.
    pub options: Options,
    /// What is connected to the process.
    pub stdio: Stdio,
    /// Whether the machine may go on from a template; never when [`Self::debug`] is on.
    pub template: TemplateUse,
    /// `--debug`: the guest's kernel speaks, and every step is told.
    pub debug: bool,
}

/// Whether a machine may go on from a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateUse {
    /// It may, and where there is none it becomes one.
    Allowed,
    /// It boots (`--no-template`).
    Never,
}

/// When a run pulls its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Every time.
    Always,
    /// When the store has no image of this name.
    #[default]
    Missing,
    /// Not at all.
    Never,
}

/// What is connected to a container's first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// A terminal of this size, with input.
    Terminal(WindowSize),
    /// Three pipes.
    Pipes,
    /// Two pipes, and an empty standard input.
    OutputOnly,
}

/// One `-e`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvChange {
    /// `-e KEY=VALUE`.
    Set {
        /// The variable.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// `-e KEY`: the value `hyperrun` itself has, and no such variable when it has none.
    FromHost(Vec<u8>),
}

/// Text that is no change of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid environment variable: {0}")]
pub struct EnvError(String);

impl EnvChange {
    /// Parses what stands behind `-e`.
    pub fn parse(text: &[u8]) -> Result<Self, EnvError> {
        let (key, value) = match text.iter().position(|byte| *byte == b'=') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        if key.is_empty() || text.contains(&0) {
            return Err(EnvError(String::from_utf8_lossy(text).into_owned()));
        }
        Ok(match value {
            Some(value) => Self::Set { key: key.to_vec(), value: value.to_vec() },
            None => Self::FromHost(key.to_vec()),
        })
    }
}

/// A container's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName(String);

/// Text that is no container's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-]+ are allowed")]
pub struct NameError(String);

impl ContainerName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let good = (2..=Self::MAX_BYTES).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte));
        if good { Ok(Self(text.to_owned())) } else { Err(NameError(text.to_owned())) }
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A host name: labels of letters, digits and inner hyphens, joined by dots (RFC 1123, section
/// 2.1), in no more bytes than Linux keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(String);

/// Text that is no host name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid hostname: {0}")]
pub struct HostnameError(String);

impl Hostname {
    /// Linux's `__NEW_UTS_LEN`.
    pub const MAX_BYTES: usize = 64;
    /// The longest label (RFC 1035, section 2.3.4).
    const MAX_LABEL_BYTES: usize = 63;

    /// One label made of `text` and `ending`: what no label may hold becomes a hyphen, and `text`
    /// is cut where both would not fit.
    pub(crate) fn from_label(text: &str, ending: &str) -> Self {
        let mut label: String = text
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
            .take(Self::MAX_LABEL_BYTES - ending.len())
            .collect();
        label.make_ascii_lowercase();
        let label = label.trim_matches('-');
        let whole = format!("{label}{ending}");
        Self(whole.trim_matches('-').to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let label = |label: &str| {
            let bytes = label.as_bytes();
            (1..=Self::MAX_LABEL_BYTES).contains(&bytes.len())
                && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= Self::MAX_BYTES && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostnameError(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_changes_are_parsed_as_docker_does() {
        let set =
            |key: &str, value: &str| Ok(EnvChange::Set { key: key.into(), value: value.into() });
        assert_eq!(EnvChange::parse(b"A=b"), set("A", "b"));
        assert_eq!(EnvChange::parse(b"A="), set("A", ""));
        assert_eq!(EnvChange::parse(b"A=b=c"), set("A", "b=c"));
        assert_eq!(EnvChange::parse(b"A"), Ok(EnvChange::FromHost(b"A".to_vec())));
        for bad in [b"".as_slice(), b"=", b"=b", b"A=\0"] {
            assert!(EnvChange::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_dockers() {
        for good in ["ab", "web-1", "A_b.c", "00"] {
            assert_eq!(good.parse::<ContainerName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(129);
        for bad in ["", "a", "-ab", ".ab", "a/b", "a b", "ä1", long.as_str()] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_are_checked() {
        let longest = format!("{}.{}", "a".repeat(32), "b".repeat(31));
        for good in ["a", "web-1", "a.example.org", "UPPER", longest.as_str()] {
            assert!(good.parse::<Hostname>().is_ok(), "{good}");
        }
        let long_label = "a".repeat(64);
        for bad in ["", "-a", "a-", "a..b", "a_b", "a b", "a\nb", long_label.as_str()] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_is_made_of_anything() {
        let cases = [
            ("debian-bookworm", "-7939453236", "debian-bookworm-7939453236"),
            ("My_App.v1", "", "my-app-v1"),
            ("--x--", "", "x"),
            ("", "-7939453236", "7939453236"),
        ];
        for (text, ending, wanted) in cases {
            assert_eq!(Hostname::from_label(text, ending).as_str(), wanted);
        }
        let long = Hostname::from_label(&"a".repeat(200), "-0123456789");
        assert_eq!(long.as_str().len(), 63);
        assert!(long.as_str().parse::<Hostname>().is_ok());
    }
}
