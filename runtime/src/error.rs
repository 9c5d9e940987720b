//! Why a container was not run, with what a person can do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use vmm::config::MIN_MEMORY_MIB;

use crate::containers::Status;
use crate::files::FilesError;
use crate::link::Failure;
use crate::network::NetworkError;
use crate::options::{LinesError, NetworkOptionError};
use crate::plan::{LimitsError, PlanError};
use crate::publish::DoorError;
use crate::settings::SettingsError;
use crate::snapshots::SnapshotError;
use crate::templates::TemplateError;
use crate::update::UpdateError;

/// Why a container was not run.
#[derive(Debug, Error)]
pub enum Error {
    /// What was asked for makes no container.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The image is not there or cannot be used.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// There is no such network, or it cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Networks that make no sense together.
    #[error(transparent)]
    NetworkOption(#[from] NetworkOptionError),
    /// A port of the host cannot be had.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// A file of variables or labels makes no sense.
    #[error("poorly formatted file {}", path.display())]
    Lines {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        source: LinesError,
    },
    /// A file of configuration makes no sense.
    #[error("{}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        source: SettingsError,
    },
    /// A file cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused something that has no file.
    #[error("cannot {action}")]
    System {
        /// What was tried, as a verb with its object.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Neither root, nor a home folder.
    #[error("no folder for images is known: HOME is not set")]
    NoHome,
    /// The guest kernel or the agent is not there.
    #[error("no {what} found")]
    GuestFile {
        /// Which one.
        what: &'static str,
        /// The environment variable that can name it.
        variable: &'static str,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The client of registries failed.
    #[error("{name} was not pulled")]
    NotPulled {
        /// The image.
        name: String,
        /// Whether it has said why.
        told: bool,
    },
    /// No container is meant.
    #[error("no such container: {words}")]
    UnknownContainer {
        /// As it was typed.
        words: String,
    },
    /// More than one container's id begins like this.
    #[error("{words} is the beginning of more than one container id")]
    AmbiguousContainer {
        /// As it was typed.
        words: String,
    },
    /// The container does not run.
    #[error("container {name} is not running")]
    NotRunning {
        /// Its name.
        name: String,
    },
    /// The container runs.
    #[error("container {name} is {}", state.word())]
    StillRunning {
        /// Its name.
        name: String,
        /// What it does.
        state: Status,
    },
    /// Somebody is at the files of the container, which does not run.
    #[error("the files of container {name} are in use")]
    Visited {
        /// Its name.
        name: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// Files were not copied, compared or committed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The supervisor of a container cannot be talked to.
    #[error("cannot talk to the supervisor of container {name}")]
    Supervisor {
        /// The container's name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The supervisor of a container is of another version of hyperrun.
    #[error(
        "container {name} was started by another hyperrun, whose supervisor speaks version {version}"
    )]
    OtherSupervisor {
        /// The container's name.
        name: String,
        /// The version.
        version: u32,
        /// Its process.
        supervisor: Option<i32>,
    },
    /// A supervisor has not done what it was asked for.
    #[error("container {name}: {reason}")]
    Refused {
        /// The container's name.
        name: String,
        /// Its words.
        reason: String,
    },
    /// The same, of a supervisor that knows its container's name no better than whoever asked.
    #[error("{0}")]
    Denied(String),
    /// The container's output is kept nowhere.
    #[error("container {name} has no log: it was created with --log-driver none")]
    NoLog {
        /// The container's name.
        name: String,
    },
    /// A log cannot be read, or what was read cannot be passed on.
    #[error("cannot show the log")]
    Output(#[source] io::Error),
    /// A container cannot be changed as it was asked for.
    #[error("cannot update container {name}")]
    Update {
        /// The container's name.
        name: String,
        /// Why not.
        source: UpdateError,
    },
    /// Another container has this name.
    #[error("the container name \"{name}\" is already in use by container {id}")]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// No template, or not one only, is meant.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A snapshot is not made, not found, or of no use here.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// `mke2fs` cannot be started.
    #[error("cannot start mke2fs to format the blank scratch disk")]
    NoFormatter(#[source] io::Error),
    /// `mke2fs` failed.
    #[error("mke2fs failed: {message}")]
    Format {
        /// What it said.
        message: String,
    },
    /// `-t`, and no terminal.
    #[error("the input device is not a TTY")]
    NotATerminal,
    /// This machine's KVM runs no ordinary guest.
    #[error("this machine cannot run hyperrun's guests")]
    Unfit(#[source] vmm::selftest::SelfTestError),
    /// The supervisor says why it gave up.
    #[error("{}", .0.message)]
    Supervised(Failure),
    /// The supervisor ended without a word.
    #[error("the container's supervisor was killed, and its machine with it")]
    SupervisorDied,
}

impl Error {
    /// The exit code `run` ends with, Docker's: 127 when the program is not in the image, 126 when
    /// it cannot be executed, 1 when there is no terminal, 125 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Supervised(failure) => failure.code,
            Self::NotATerminal => 1,
            _ => 125,
        }
    }

    /// Whether no network is meant.
    #[must_use]
    pub fn is_unknown_network(&self) -> bool {
        matches!(self, Self::Network(NetworkError::Unknown { .. }))
    }

    /// Whether a person knows already, and need not be told again.
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self, Self::NotPulled { told: true, .. })
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => plan_hint(error),
            Self::Image(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::Door(error) => error.hint(),
            Self::File { path, source, .. } => file_hint(path, source),
            Self::Lines { .. } => Some("each line is KEY=VALUE, KEY, or begins with #".to_owned()),
            Self::Settings { .. } => Some("docs/configuration.md shows what it may say".to_owned()),
            Self::NoHome => Some("set HOME, or name a folder with --root".to_owned()),
            Self::GuestFile { variable, looked, .. } => {
                let looked: Vec<_> = looked.iter().map(|path| path.display().to_string()).collect();
                let looked = looked.join(" and ");
                Some(format!("looked at {looked}; {variable} can name it"))
            }
            Self::Update { source: UpdateError::AutoRemove | UpdateError::Limits(_), .. } => None,
            Self::Update { .. } => {
                Some("stop it first: its next start makes another machine".to_owned())
            }
            Self::NameInUse { .. } => {
                Some("choose another name, or remove or rename that container".to_owned())
            }
            Self::UnknownContainer { .. } => {
                Some("`hyperrun ps -a` lists all containers".to_owned())
            }
            Self::AmbiguousContainer { .. } => Some("give more digits of the id".to_owned()),
            Self::NotRunning { .. } => Some("`hyperrun start` starts it".to_owned()),
            Self::StillRunning { .. } => Some("stop it first, or use `-f`".to_owned()),
            Self::OtherSupervisor { name, supervisor, .. } => Some(match supervisor {
                Some(pid) => format!(
                    "it goes on as it is; `kill {pid}`, then `hyperrun start {name}` puts it under \
                     this one"
                ),
                None => "it goes on as it is, under the hyperrun that has started it".to_owned(),
            }),
            Self::Visited { .. } => Some("try again when that has ended".to_owned()),
            Self::Files(error) => error.hint(),
            Self::Supervisor { .. }
            | Self::Refused { .. }
            | Self::Denied(_)
            | Self::NetworkOption(_)
            | Self::NoLog { .. }
            | Self::Output(_) => None,
            Self::Snapshot(error) => error.hint(),
            Self::Template(_) => Some("`hyperrun template ls` lists them".to_owned()),
            Self::NoFormatter(_) => Some("install e2fsprogs".to_owned()),
            Self::NotATerminal => Some("leave out -t, or run it from a terminal".to_owned()),
            Self::Unfit(_) => Some("`hyperrun doctor` says what is missing".to_owned()),
            Self::Supervised(failure) => failure.hint.clone(),
            Self::NotPulled { .. }
            | Self::System { .. }
            | Self::Format { .. }
            | Self::SupervisorDied => None,
        }
    }

    /// The guest's last lines, where they say more than the error does.
    #[must_use]
    pub fn console(&self) -> Option<&str> {
        match self {
            Self::Supervised(failure) if !failure.console.is_empty() => Some(&failure.console),
            _ => None,
        }
    }
}

fn plan_hint(error: &PlanError) -> Option<String> {
    match error {
        PlanError::Platform { .. } => Some("load or pull the image for linux/amd64".to_owned()),
        PlanError::NoCommand => Some("name a command after the image".to_owned()),
        PlanError::User(_) => Some("write it as USER or USER:GROUP".to_owned()),
        PlanError::Limits(LimitsError::Reservation | LimitsError::Swap) => {
            Some("memory-reservation is at most memory, memory-swap at least".to_owned())
        }
        PlanError::Seccomp(_) => {
            Some("a profile is JSON in Docker's form, see docs/cli.md".to_owned())
        }
        PlanError::Limits(_)
        | PlanError::WorkingDirectory(_)
        | PlanError::Volume(_)
        | PlanError::Nul(_) => None,
    }
}

fn file_hint(path: &std::path::Path, source: &io::Error) -> Option<String> {
    match source.kind() {
        io::ErrorKind::PermissionDenied if path == std::path::Path::new("/dev/kvm") => {
            Some("run as root, or add this user to the group kvm".to_owned())
        }
        io::ErrorKind::PermissionDenied => {
            Some("run as root, or choose a folder of your own with --root".to_owned())
        }
        io::ErrorKind::StorageFull => {
            Some("free some space there, or choose another folder with --root".to_owned())
        }
        io::ErrorKind::OutOfMemory => {
            Some(format!("a machine needs {MIN_MEMORY_MIB} MiB and more, see -m"))
        }
        _ => None,
    }
}
