//! How a container is kept: what was asked for that neither its machine nor its program sees.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::health::HealthCheck;
use crate::limits::Size;
use crate::signal::SignalNumber;

/// How a container is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keeping {
    /// `--rm`: it is removed when it ends.
    pub auto_remove: bool,
    /// Whether the program's input ends with that of the first who is attached to it.
    pub input_once: bool,
    /// `--label`; those of the image are among them.
    pub labels: BTreeMap<String, String>,
    /// What `stop` sends; none is SIGTERM.
    pub stop_signal: Option<SignalNumber>,
    /// The seconds from there to SIGKILL; none is ten, and less than nothing waits for ever.
    pub stop_timeout: Option<i64>,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// `--health-cmd` and the like; what they leave open is the image's.
    pub health: Option<HealthCheck>,
    /// `--log-driver` and `--log-opt`.
    pub log: LogConfig,
}

/// When a container that has ended is started again by its supervisor, and which ones `boot` starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it ended with another code than 0, and no more often than this if there is a number.
    OnFailure(Option<u32>),
    /// Always.
    Always,
    /// Always but after it was stopped by hand.
    UnlessStopped,
}

/// Text that is no restart policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid restart policy: {0:?} is none of no, on-failure[:MOST], always, unless-stopped")]
pub struct RestartError(String);

impl RestartPolicy {
    /// Whether a container that has ended with this code, and was started again so often before, is
    /// started once more, if nobody has stopped it.
    pub(crate) fn starts_again(self, code: u8, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            // As with Docker, 0 is no limit.
            Self::OnFailure(most) => {
                let most = most.filter(|most| *most > 0);
                code != 0 && most.is_none_or(|most| restarts < most)
            }
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = RestartError;

    fn from_str(text: &str) -> Result<Self, RestartError> {
        let (name, most) = match text.split_once(':') {
            Some((name, most)) => (name, Some(most)),
            None => (text, None),
        };
        let wrong = || RestartError(text.to_owned());
        match (name, most) {
            ("no" | "", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            ("on-failure", most) => {
                let most = most.map(|most| most.parse().map_err(|_| wrong())).transpose()?;
                Ok(Self::OnFailure(most))
            }
            _ => Err(wrong()),
        }
    }
}

impl RestartPolicy {
    /// As `--restart` has it.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self {
            Self::OnFailure(Some(most)) => format!("{self}:{most}"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for RestartPolicy {
    /// Docker's name of it, without a number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        })
    }
}

/// What becomes of a container's output beside being shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Where it goes.
    pub driver: LogDriver,
    /// How large a file of the log may become, in bytes.
    pub max_bytes: u64,
    /// How many files there may be, at least one.
    pub max_files: u32,
}

/// Where a container's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// In files of lines, each a JSON object.
    JsonFile,
    /// Nowhere.
    None,
}

impl Default for LogConfig {
    /// Three files of 10 MiB: Docker's log has no bound unless it is given one, ours always has.
    fn default() -> Self {
        Self { driver: LogDriver::JsonFile, max_bytes: 10 << 20, max_files: 3 }
    }
}

/// An option or a driver that logs do not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// There is no such driver.
    #[error("unknown log driver {0:?}: there are json-file and none")]
    Driver(String),
    /// There is no such option.
    #[error("unknown log opt {0:?}: there are max-size and max-file")]
    Option(String),
    /// The value makes no sense.
    #[error("invalid log opt {0}: max-size is a size as in 10m, max-file a number from 1 to 1000")]
    Value(String),
}

impl LogConfig {
    /// The smallest file: two lines of the longest kind.
    const MIN_BYTES: u64 = 256 << 10;

    /// What becomes of it with `--log-driver` and every `--log-opt KEY=VALUE`.
    ///
    /// # Errors
    /// When a driver, a key or a value makes no sense.
    pub fn with(mut self, driver: Option<&str>, options: &[String]) -> Result<Self, LogError> {
        if let Some(driver) = driver {
            self.driver = driver.parse()?;
        }
        for option in options {
            match option.split_once('=') {
                Some(("max-size", size)) => self.max_bytes = size.parse::<LogSize>()?.0,
                Some(("max-file", count)) => self.max_files = count.parse::<LogCount>()?.0,
                Some((key, _)) => return Err(LogError::Option(key.to_owned())),
                None => return Err(LogError::Option(option.clone())),
            }
        }
        Ok(self)
    }
}

/// How large a file of a log may become, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSize(pub u64);

/// How many files a log may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCount(pub u32);

impl FromStr for LogDriver {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "json-file" => Ok(Self::JsonFile),
            "none" => Ok(Self::None),
            other => Err(LogError::Driver(other.to_owned())),
        }
    }
}

impl fmt::Display for LogDriver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::JsonFile => "json-file",
            Self::None => "none",
        })
    }
}

impl FromStr for LogSize {
    type Err = LogError;

    /// A [`Size`], but no smaller than a file can be.
    fn from_str(text: &str) -> Result<Self, LogError> {
        let size: Size = text.parse().map_err(|_| LogError::Value(format!("max-size={text}")))?;
        Ok(Self(size.bytes.max(LogConfig::MIN_BYTES)))
    }
}

impl FromStr for LogCount {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        let count = text.parse().ok().filter(|count| (1..=1000).contains(count));
        count.map(Self).ok_or_else(|| LogError::Value(format!("max-file={text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_are_dockers() {
        let cases = [
            ("no", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure(None)),
            ("on-failure:5", RestartPolicy::OnFailure(Some(5))),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse(), Ok(wanted));
            assert_eq!(wanted.in_full(), text);
        }
        for text in ["sometimes", "always:3", "on-failure:-1", "on-failure:x", "no:1"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text}");
        }
    }

    #[test]
    fn logs_have_bounds() {
        let parse = |driver, options: &[&str]| {
            let options: Vec<_> = options.iter().map(|text| (*text).to_owned()).collect();
            LogConfig::default().with(driver, &options)
        };
        assert_eq!(parse(None, &[]), Ok(LogConfig::default()));
        assert_eq!(parse(Some("none"), &[]).unwrap().driver, LogDriver::None);
        let config = parse(Some("json-file"), &["max-size=1m", "max-file=7"]).unwrap();
        assert_eq!((config.max_bytes, config.max_files), (1 << 20, 7));
        let small = parse(None, &["max-size=1"]).unwrap();
        assert_eq!(small.max_bytes, LogConfig::MIN_BYTES);
        let other = config.with(Some("none"), &["max-file=2".to_owned()]).unwrap();
        assert_eq!((other.max_bytes, other.max_files), (1 << 20, 2));
        for (driver, option) in [
            (Some("syslog"), "max-file=1"),
            (None, "max-file=0"),
            (None, "max-size=-1"),
            (None, "max-size"),
            (None, "compress=true"),
        ] {
            assert!(parse(driver, &[option]).is_err(), "{option}");
        }
    }
}
