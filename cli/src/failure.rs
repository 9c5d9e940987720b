//! How a command fails: an error with its causes, what to do about it, and an exit code.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::template::TemplateError;

/// Docker's exit code for words a command does not know.
const MISREAD: u8 = 125;

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error>,
    hint: Option<String>,
    console: Option<String>,
    code: u8,
    /// Whether a person has been told already.
    told: bool,
}

impl Failure {
    /// Words that no library has.
    pub(crate) fn new(error: &str, hint: &str) -> Self {
        Self {
            error: error.into(),
            hint: Some(hint.to_owned()),
            console: None,
            code: 1,
            told: false,
        }
    }

    /// The same with another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// A failure of `run`, with Docker's exit codes.
    pub(crate) fn of_run(error: runtime::Error) -> Self {
        Self { code: error.exit_code(), ..Self::from(error) }
    }

    /// A failure of `exec`, whose own is 1 as with Docker.
    pub(crate) fn of_exec(error: runtime::Error) -> Self {
        let code = match error.exit_code() {
            125 => 1,
            code => code,
        };
        Self { code, ..Self::from(error) }
    }

    /// Says what is wrong on stderr.
    pub(crate) fn report(self) -> ExitCode {
        if self.told {
            return ExitCode::from(self.code);
        }
        let mut text = format!("error: {}\n", runtime::chain(self.error.as_ref()));
        if let Some(console) = &self.console {
            text.push_str("the guest's last lines:\n");
            console.lines().for_each(|line| text.push_str(&format!("  | {line}\n")));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        // Where stderr is closed, the exit code still speaks.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        ExitCode::from(self.code)
    }
}

impl From<runtime::Error> for Failure {
    fn from(error: runtime::Error) -> Self {
        let hint = error.hint();
        let console = error.console().map(str::to_owned);
        let told = error.is_told();
        Self { error: Box::new(error), hint, console, code: 1, told }
    }
}

impl From<images::Error> for Failure {
    fn from(error: images::Error) -> Self {
        let hint = error.hint();
        Self { error: Box::new(error), hint, console: None, code: 1, told: false }
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        let hint = "docs/cli.md says what `--format` understands";
        Self::new(&format!("template parsing error: {error}"), hint)
    }
}

/// Standard output that cannot be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { error: Box::new(error), hint: None, console: None, code: 1, told: false }
    }
}

/// Says what clap did not understand, or the help that was asked for.
pub(crate) fn misread(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr is nothing to complain of here.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        ErrorKind::InvalidSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand => ExitCode::from(1),
        _ => ExitCode::from(MISREAD),
    }
}
