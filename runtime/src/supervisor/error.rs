//! Why a supervisor gave up, and what the attached side is told of it.

use std::io;

use protocol::{FrameError, StartError, VERSION};
use thiserror::Error;
use vmm::exit::Exit;

use super::console::printable;
use crate::link::{Blame, Failure};
use crate::network::NetworkError;
use vmm::error::chain;

/// Why a supervisor gave up.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("cannot {action}")]
    System { action: &'static str, source: io::Error },
    #[error("{message}")]
    Machine { message: String },
    #[error("the machine's process was killed")]
    MachineDied,
    #[error("the guest's kernel panicked")]
    Panicked { console: String },
    #[error("{0} before its program had ended")]
    Ended(Exit),
    #[error("the guest did not get ready within {seconds} s")]
    NotReady { seconds: u64 },
    #[error("the program did not start within {seconds} s")]
    NotStarted { seconds: u64 },
    #[error("the agent in the guest did not answer within {seconds} s")]
    NoAnswer { seconds: u64 },
    #[error("cannot reach the agent in the guest")]
    Connect(#[source] io::Error),
    #[error("the agent in the guest cannot be understood")]
    Agent(#[source] FrameError),
    #[error("the agent in the guest has hung up")]
    AgentGone,
    #[error("the agent speaks version {version}, this hyperrun speaks {VERSION}")]
    Version { version: u32 },
    #[error("{}", start_error(.0))]
    Start(StartError),
    #[error("the start was given up")]
    Abandoned,
    #[error("no template was made: {reason}")]
    NotSaved { reason: String },
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the template is broken")]
    Template(#[source] Box<Error>),
}

impl Error {
    /// What a machine's end means while the program still ran, or never did.
    pub(super) fn from_exit(exit: Exit) -> Self {
        match exit {
            Exit::Panic { console_tail } => Self::Panicked { console: console_tail },
            exit => Self::Ended(exit),
        }
    }

    /// The words for the attached side, with the guest's last lines where they explain it.
    pub(super) fn into_failure(self, console: &str) -> Failure {
        let code = match &self {
            Self::Start(StartError::NotFound { .. }) => 127,
            Self::Start(StartError::NotExecutable { .. }) => 126,
            _ => 125,
        };
        let console = match &self {
            Self::Panicked { console: own } if console.is_empty() => printable(own),
            Self::Panicked { .. }
            | Self::Ended(_)
            | Self::NotReady { .. }
            | Self::NotStarted { .. }
            | Self::NoAnswer { .. }
            | Self::AgentGone => console.to_owned(),
            _ => String::new(),
        };
        let blame = match &self {
            Self::Machine { .. } | Self::NotReady { .. } | Self::NoAnswer { .. } => Blame::Machine,
            Self::Ended(_) | Self::Panicked { .. } => Blame::Machine,
            Self::Template(_) => Blame::Template,
            _ => Blame::Other,
        };
        let hint = self.hint();
        Failure { code, message: printable(&chain(&self)), hint, console, blame }
    }

    fn hint(&self) -> Option<String> {
        let debug = "run it with --debug to see what the guest's kernel says";
        match self {
            Self::NotReady { .. } => {
                Some(format!("{debug}; HYPERRUN_BOOT_TIMEOUT sets the seconds"))
            }
            Self::Panicked { .. } | Self::Ended(_) | Self::NoAnswer { .. } => {
                Some(debug.to_owned())
            }
            Self::Network(error) => error.hint(),
            Self::Version { .. } => Some("build kernel, agent and hyperrun together".to_owned()),
            _ => None,
        }
    }
}

/// Docker's words for a program that does not start.
fn start_error(error: &StartError) -> String {
    match error {
        StartError::NotFound { program } if program.contains('/') => {
            format!("exec: {program:?}: no such file or directory")
        }
        StartError::NotFound { program } => {
            format!("exec: {program:?}: executable file not found in $PATH")
        }
        StartError::NotExecutable { program, reason } => format!("exec: {program:?}: {reason}"),
        StartError::UnknownUser { name } => {
            format!("unable to find user {name}: no matching entries in passwd file")
        }
        StartError::UnknownGroup { name } => {
            format!("unable to find group {name}: no matching entries in group file")
        }
        StartError::WorkingDirectory { path, reason } => {
            format!("cannot use the working directory {path:?}: {reason}")
        }
        StartError::Setup { message } => format!("cannot set up the container: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_do_not_start_have_dockers_codes_and_words() {
        let not_found = |program: &str| StartError::NotFound { program: program.to_owned() };
        let cases = [
            (not_found("nope"), 127, "exec: \"nope\": executable file not found in $PATH"),
            (not_found("/nope"), 127, "exec: \"/nope\": no such file or directory"),
            (
                StartError::NotExecutable {
                    program: "/etc".to_owned(),
                    reason: "permission denied".to_owned(),
                },
                126,
                "exec: \"/etc\": permission denied",
            ),
            (
                StartError::UnknownUser { name: "bob".to_owned() },
                125,
                "unable to find user bob: no matching entries in passwd file",
            ),
            (
                StartError::UnknownGroup { name: "bees".to_owned() },
                125,
                "unable to find group bees: no matching entries in group file",
            ),
        ];
        for (error, code, message) in cases {
            let failure = Error::Start(error).into_failure("noise");
            assert_eq!((failure.code, failure.message.as_str()), (code, message));
            assert!(failure.console.is_empty());
        }
    }

    #[test]
    fn a_silent_guest_shows_its_last_lines() {
        let failure = Error::NotReady { seconds: 60 }.into_failure("last line\n");
        assert_eq!((failure.code, failure.console.as_str()), (125, "last line\n"));
    }
}
