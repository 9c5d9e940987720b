//! What a run of the binary printed and returned, with judgements that show it all on failure.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::ended::Ended;

/// A finished run.
pub struct Output {
    command: String,
    /// Whom to ask about containers that do not run.
    ended: Option<Ended>,
    /// The exit status as a shell shows it.
    pub code: i32,
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// What `command` gave; on failure the containers that do not run are told with it.
    pub fn of(command: &Command, output: std::process::Output) -> Self {
        Self { ended: Ended::of(command), ..Self::new(format!("{command:?}"), output) }
    }

    /// What `command` gave.
    pub fn new(command: String, output: std::process::Output) -> Self {
        let status = output.status;
        Self {
            command,
            ended: None,
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The exit status is `code`.
    #[track_caller]
    pub fn code_is(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}", self.told());
        self
    }

    /// Standard output is exactly `text`.
    #[track_caller]
    pub fn stdout_is(&self, text: &str) -> &Self {
        assert_eq!(self.stdout, text, "{}", self.told());
        self
    }

    /// Standard output holds `text`.
    #[track_caller]
    pub fn stdout_has(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "no {text:?} in stdout\n{}", self.told());
        self
    }

    /// Standard error is exactly `text`.
    #[track_caller]
    pub fn stderr_is(&self, text: &str) -> &Self {
        assert_eq!(self.stderr, text, "{}", self.told());
        self
    }

    /// Standard error holds `text`.
    #[track_caller]
    pub fn stderr_has(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in stderr\n{}", self.told());
        self
    }

    /// It failed as hyperrun fails: this code, `error:` first on standard error, nothing on
    /// standard output, and `text` in what it says.
    #[track_caller]
    pub fn fails_with(&self, code: i32, text: &str) -> &Self {
        self.code_is(code).stdout_is("").stderr_has(text);
        assert!(self.stderr.contains("error: "), "no error: in stderr\n{}", self.told());
        self
    }

    fn told(&self) -> String {
        let ended = self.ended.as_ref().map(Ended::tell).unwrap_or_default();
        format!(
            "{}\nexit status {}\n--- stdout\n{}\n--- stderr\n{}{ended}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}
