//! What holds for a container where nobody says otherwise: built in, unless the machine's or the
//! user's configuration says something else.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};

use images::configuration;

use self::file::{Said, SettingsFile};
use crate::error::Error;
use crate::keeping::{LogConfig, LogDriver, RestartPolicy};
use crate::limits::{Cpus, MemorySize, ScratchSize, Size};

pub use self::file::SettingsError;

/// The name of the files of configuration.
const NAME: &str = "config.toml";

/// The defaults of containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `-m`.
    pub memory: Setting<MemorySize>,
    /// `--cpus`.
    pub cpus: Setting<Cpus>,
    /// `--storage-opt size=`.
    pub scratch_size: Setting<ScratchSize>,
    /// `--restart`.
    pub restart: Setting<RestartPolicy>,
    /// `--log-driver`.
    pub log_driver: Setting<LogDriver>,
    /// `--log-opt max-size`, in bytes.
    pub log_max_bytes: Setting<u64>,
    /// `--log-opt max-file`.
    pub log_max_files: Setting<u32>,
}

/// A default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// What it is.
    pub value: T,
    /// Who says so.
    pub origin: SettingOrigin,
}

/// Where a default comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    /// No file says anything.
    BuiltIn,
    /// A line of a file.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
}

/// A default as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownSetting {
    /// Its key in a file; one of a table has the table's name before it.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Who says so.
    pub origin: SettingOrigin,
}

impl Settings {
    /// Reads the machine's file, and the user's over it. Those that are not there say nothing.
    ///
    /// # Errors
    /// When a file cannot be read or says something that makes no sense.
    pub fn load() -> Result<Self, Error> {
        let mut settings = Self::default();
        for path in Self::files() {
            let unread = |source| Error::File { action: "read", path: path.clone(), source };
            if let Some(text) = configuration::read(&path).map_err(unread)? {
                settings.read(&path, &text)?;
            }
        }
        Ok(settings)
    }

    /// The files that are read, in order; they need not exist.
    #[must_use]
    pub fn files() -> Vec<PathBuf> {
        configuration::files(NAME)
    }

    /// What becomes of a container's output.
    #[must_use]
    pub fn log(&self) -> LogConfig {
        LogConfig {
            driver: self.log_driver.value,
            max_bytes: self.log_max_bytes.value,
            max_files: self.log_max_files.value,
        }
    }

    /// All of them, as a person reads them.
    #[must_use]
    pub fn shown(&self) -> Vec<ShownSetting> {
        let size = |bytes: u64| Size { bytes }.to_string();
        vec![
            self.memory.shown("memory", ToString::to_string),
            self.cpus.shown("cpus", ToString::to_string),
            self.scratch_size.shown("scratch-size", ToString::to_string),
            self.restart.shown("restart", RestartPolicy::in_full),
            self.log_driver.shown("log-driver", ToString::to_string),
            self.log_max_bytes.shown("log-opts.max-size", |bytes| size(*bytes)),
            self.log_max_files.shown("log-opts.max-file", ToString::to_string),
        ]
    }

    /// Takes what the file at `path` says.
    fn read(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let failed = |source| Error::Settings { path: path.to_owned(), source };
        let file = SettingsFile::parse(text).map_err(failed)?;
        let place = Place { path, text };
        self.memory.take(file.memory, place);
        self.cpus.take(file.cpus, place);
        self.scratch_size.take(file.scratch_size, place);
        self.restart.take(file.restart, place);
        self.log_driver.take(file.log_driver, place);
        self.log_max_bytes.take(file.log_opts.max_size, place);
        self.log_max_files.take(file.log_opts.max_file, place);
        Ok(())
    }
}

impl Default for Settings {
    /// What is built in.
    fn default() -> Self {
        let LogConfig { driver, max_bytes, max_files } = LogConfig::default();
        Self {
            memory: Setting::built_in(MemorySize::DEFAULT),
            cpus: Setting::built_in(Cpus::DEFAULT),
            scratch_size: Setting::built_in(ScratchSize::DEFAULT),
            restart: Setting::built_in(RestartPolicy::default()),
            log_driver: Setting::built_in(driver),
            log_max_bytes: Setting::built_in(max_bytes),
            log_max_files: Setting::built_in(max_files),
        }
    }
}

/// A file that is being read.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<T> Setting<T> {
    fn built_in(value: T) -> Self {
        Self { value, origin: SettingOrigin::BuiltIn }
    }

    fn take(&mut self, said: Said<impl Into<T>>, place: Place<'_>) {
        let Some(said) = said else { return };
        let line = configuration::line_at(place.text, said.span().start);
        let origin = SettingOrigin::Line { path: place.path.to_owned(), line };
        *self = Self { value: said.into_inner().0.into(), origin };
    }

    fn shown(&self, key: &'static str, words: impl Fn(&T) -> String) -> ShownSetting {
        ShownSetting { key, value: words(&self.value), origin: self.origin.clone() }
    }
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("built in"),
            Self::Line { path, line } => write!(formatter, "{}:{line}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(settings: &Settings) -> Vec<String> {
        let line = |one: ShownSetting| format!("{} {} ({})", one.key, one.value, one.origin);
        settings.shown().into_iter().map(line).collect()
    }

    #[test]
    fn the_users_file_counts_more_than_the_machines() {
        let mut settings = Settings::default();
        let machine = "# for all\nmemory = \"1g\"\nrestart = 'on-failure:3'\n\
                       [log-opts]\nmax-size = \"1m\"\n";
        settings.read(Path::new("/etc/c"), machine).unwrap();
        settings.read(Path::new("/home/c"), "cpus = 1.5\n\nmemory = \"256m\"\n").unwrap();
        assert_eq!(
            shown(&settings),
            [
                "memory 256m (/home/c:3)",
                "cpus 1.50 (/home/c:1)",
                "scratch-size 10g (built in)",
                "restart on-failure:3 (/etc/c:3)",
                "log-driver json-file (built in)",
                "log-opts.max-size 1m (/etc/c:5)",
                "log-opts.max-file 3 (built in)",
            ]
        );
        assert_eq!(settings.log().max_bytes, 1 << 20);
    }

    #[test]
    fn the_example_and_its_documentation_say_what_is_built_in() {
        let example = include_str!("../../../packaging/config.toml");
        let mut settings = Settings::default();
        settings.read(Path::new("c"), example).unwrap();
        let values = |settings: &Settings| settings.shown().into_iter().map(|one| one.value);
        assert!(values(&settings).eq(values(&Settings::default())));
        assert!(settings.shown().iter().all(|one| one.origin != SettingOrigin::BuiltIn));
        let (_, keys) = example.split_once("\n\n").unwrap();
        assert!(include_str!("../../../docs/configuration.md").contains(keys));
    }

    #[test]
    fn a_mistake_is_told_with_its_file_and_line() {
        let mut settings = Settings::default();
        let error = settings.read(Path::new("/etc/c"), "cpus = 1\nmemroy = 1\n").unwrap_err();
        let error = vmm::error::chain(&error);
        assert!(error.starts_with("/etc/c: line 2: unknown field `memroy`, expected"), "{error}");
        assert_eq!(settings, Settings::default());
    }
}
