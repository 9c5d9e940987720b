//! A file of configuration: its keys, and what may stand behind each.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use images::configuration;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use thiserror::Error as ThisError;
use toml::Spanned;

use crate::keeping::{LogCount, LogDriver, LogSize, RestartPolicy};
use crate::limits::{Cpus, MemorySize, ScratchSize};

/// What a file says behind a key, if it has the key, and where.
pub(super) type Said<T> = Option<Spanned<Word<T>>>;

/// A file as it is written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct SettingsFile {
    pub(super) memory: Said<MemorySize>,
    pub(super) cpus: Said<Cpus>,
    pub(super) scratch_size: Said<ScratchSize>,
    pub(super) restart: Said<RestartPolicy>,
    pub(super) log_driver: Said<LogDriver>,
    pub(super) log_opts: LogOptions,
}

/// The table of a log's bounds.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct LogOptions {
    pub(super) max_size: Said<LogSize>,
    pub(super) max_file: Said<LogCount>,
}

/// Why a file makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("line {line}: {problem}")]
pub struct SettingsError {
    /// The line, counted from 1.
    pub line: usize,
    problem: String,
}

impl SettingsFile {
    /// Reads a file's text.
    pub(super) fn parse(text: &str) -> Result<Self, SettingsError> {
        toml::from_str(text).map_err(|error| {
            // What has no place is missing at the end.
            let offset = error.span().map_or(text.len(), |span| span.start);
            let line = configuration::line_at(text, offset);
            SettingsError { line, problem: error.message().to_owned() }
        })
    }
}

/// A value that is written as its flag has it, as a text or a number.
#[derive(Debug)]
pub(super) struct Word<T>(pub(super) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordVisitor(PhantomData))
    }
}

struct WordVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for WordVisitor<T> {
    type Value = Word<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word<T>, E> {
        text.parse().map(Word).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Word<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Word<T>, E> {
        self.visit_str(&number.to_string())
    }
}

impl From<LogSize> for u64 {
    fn from(size: LogSize) -> Self {
        size.0
    }
}

impl From<LogCount> for u32 {
    fn from(count: LogCount) -> Self {
        count.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_their_flags_have_them() {
        let file = SettingsFile::parse(
            "memory = \"1g\"\ncpus = 2\nrestart = \"always\"\nlog-driver = \"none\"\n\
             log-opts = { max-size = 1048576, max-file = \"7\" }\n",
        )
        .unwrap();
        assert_eq!(file.memory.unwrap().into_inner().0.mib(), 1024);
        assert_eq!(file.cpus.unwrap().into_inner().0.vcpus(), 2);
        assert_eq!(file.restart.unwrap().into_inner().0, RestartPolicy::Always);
        assert_eq!(file.log_driver.unwrap().into_inner().0, LogDriver::None);
        assert_eq!(file.log_opts.max_size.unwrap().into_inner().0, LogSize(1 << 20));
        assert_eq!(file.log_opts.max_file.unwrap().into_inner().0, LogCount(7));
        let nothing = SettingsFile::parse("# nothing\n").unwrap();
        assert!(nothing.memory.is_none() && nothing.log_opts.max_file.is_none());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, wanted) in [
            ("memory = \"1g\"\nmemroy = 1", "line 2: unknown field `memroy`"),
            ("\n\nmemory = \"lots\"", "line 3: invalid size: 'lots'"),
            ("memory = 3", "line 1: minimum memory limit allowed is 4MB"),
            ("cpus = 0", "line 1: range of CPUs is from 0.01 to 32.00"),
            ("cpus = -1", "line 1: failed to parse -1 as a rational number"),
            ("cpus = inf", "line 1: failed to parse inf"),
            ("scratch-size = \"1k\"", "line 1: storage size must be from 64m to 8t"),
            ("cpus = true", "line 1: invalid type: boolean `true`, expected a text or a number"),
            ("memory = [1]", "line 1: invalid type: sequence, expected a text or a number"),
            ("restart = \"maybe\"", "line 1: invalid restart policy"),
            ("log-driver = \"syslog\"", "line 1: unknown log driver \"syslog\""),
            ("[log-opts]\nmax-size = \"1m\"\nmax-file = 0", "line 3: invalid log opt max-file=0"),
            ("[log-opts]\ncompress = true", "line 2: unknown field `compress`"),
            ("[log-options]\nmax-size = 1", "line 1: unknown field `log-options`"),
            ("log-opts = 3", "line 1: invalid type: integer `3`"),
            ("memory = 1g", "line 1: "),
            ("memory = \"1g\"\ncpus = 1\nmemory = \"2g\"", "line 3: duplicate key"),
            ("a\n", "line 1: "),
            ("x = '''\n\n", ""),
        ] {
            let problem = SettingsFile::parse(text).unwrap_err().to_string();
            assert!(problem.contains(wanted), "{text}: {problem}");
        }
    }
}
