//! The flags of `run` and `create` that say how a container is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime::keeping::{Keeping, RestartPolicy};
use runtime::options::label_file;
use runtime::settings::Settings;
use runtime::signal::SignalNumber;

use crate::commands::health::HealthArgs;
use crate::commands::options::lines_of;
use crate::commands::run::Stay;
use crate::failure::Failure;

/// How a container is kept.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct KeepingArgs {
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Write the container's id to this file, which must not be there
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Label the container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Read labels from this file, a KEY=VALUE or a KEY in each line
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// The signal that `stop` sends
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<SignalNumber>,
    /// The seconds `stop` waits before it kills; less than 0 waits for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// When to start it again: no, on-failure, on-failure:MOST, always, unless-stopped
    /// [default: no]
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<RestartPolicy>,
    #[command(flatten)]
    pub(crate) health: HealthArgs,
    /// Where its output is kept: json-file or none [default: json-file]
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// max-size=SIZE and max-file=NUMBER bound its log
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
}

impl KeepingArgs {
    /// What they mean, and what holds where they say nothing. Whether the program's input ends with
    /// the person's depends on whether they stay.
    pub(crate) fn keeping(&self, stay: Stay, settings: &Settings) -> Result<Keeping, Failure> {
        if self.rm && self.restart.is_some_and(|policy| policy != RestartPolicy::No) {
            let error = "conflicting options: cannot specify both --restart and --rm";
            let hint = "a container that is removed cannot be started again";
            return Err(Failure::new(error, hint).with_code(125));
        }
        let usual = if self.rm { RestartPolicy::No } else { settings.restart.value };
        let log = settings
            .log()
            .with(self.log_driver.as_deref(), &self.log_opt)
            .map_err(|error| Failure::new(&error.to_string(), "see `--help`").with_code(125))?;
        Ok(Keeping {
            auto_remove: self.rm,
            input_once: stay != Stay::Away,
            labels: labels(&self.label_file, &self.label)?,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            restart: self.restart.unwrap_or(usual),
            health: self.health.check(),
            log,
        })
    }
}

/// Those of the files, then `KEY=VALUE`, or `KEY` with an empty value; the last one wins.
fn labels(files: &[PathBuf], texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let of_files = lines_of(files, label_file).map_err(Failure::of_run)?;
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    Ok(of_files.into_iter().chain(texts.iter().map(pair)).collect())
}
