//! What is written down about a container: what it is, and how far it has come.
//!
//! Two documents, so that each has one writer. `container.json` is written under the register's lock
//! by whoever creates, renames or updates the container; `state.json` by whoever holds the container's own
//! lock. A version of both is raised when an older hyperrun could not do right by them; fields that
//! are added with a default do not raise it.

use std::borrow::Cow;
use std::fmt;

use protocol::{ContainerSpec, OutOfMemory, User};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::keeping::Keeping;
use crate::limits::{ScratchSize, Size};
use crate::moment::Moment;
use crate::network::{Carrier, Endpoint, NO_NETWORK, USER_NETWORK};
use crate::options::{Dns, HostLimits, Ports};
use crate::plan::VmConfig;
use crate::publish::Published;
use crate::scratch::Ground;
use crate::wishes::Wishes;

/// The version of both documents.
pub(crate) const VERSION: u32 = 1;

/// What a container is. What the agent is told makes up half of it, and is [`Unread`] where many are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<C = ContainerSpec> {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Its name; no other container has it.
    pub name: String,
    /// When it was created.
    pub created: Moment,
    /// The image's id: `sha256:…`.
    pub image_id: String,
    /// The image's name as a person gave it.
    pub image: String,
    /// What stands before [`Self::command`], for whoever looks at it.
    pub entrypoint: Vec<String>,
    /// The command without its entrypoint.
    pub command: Vec<String>,
    /// How it is kept.
    pub keeping: Keeping,
    /// Whether its machine may go on from a template.
    pub template: bool,
    /// The shape of its machine.
    pub vm: VmConfig,
    /// The size of what it writes on.
    #[serde(default)]
    pub scratch: ScratchSize,
    /// What that lies over.
    #[serde(default)]
    pub ground: Ground,
    /// What its machine may use of the host.
    #[serde(default)]
    pub host: HostLimits,
    /// Which of its ports are published or known.
    #[serde(default)]
    pub ports: Ports,
    /// How it resolves names.
    #[serde(default)]
    pub dns: Dns,
    /// What was asked for, in words.
    #[serde(default)]
    pub wishes: Wishes,
    /// The network that was asked for first; `none` if there is none.
    #[serde(default = "no_network")]
    pub network_mode: String,
    /// Its places on networks, in the order of its interfaces.
    #[serde(default)]
    pub networks: Vec<Endpoint>,
    /// What it went on from, if its first start was none.
    #[serde(default)]
    pub copy_of: Option<CopyOf>,
    /// What the agent is told.
    pub container: C,
}

/// Something in a document that nobody has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// What a container goes by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Head {
    /// As [`Record::id`].
    pub(crate) id: String,
    /// As [`Record::name`].
    pub(crate) name: String,
}

/// What a container went on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOf {
    /// The snapshot's name; none where a container was cloned.
    pub snapshot: Option<String>,
    /// The id of the container that the snapshot was made of.
    pub container: String,
}

fn no_network() -> String {
    NO_NETWORK.to_owned()
}

impl<C> Record<C> {
    /// What it goes by.
    pub(super) fn head(&self) -> Head {
        Head { id: self.id.clone(), name: self.name.clone() }
    }

    /// Whether passt carries its frames: it is on no network then.
    #[must_use]
    pub fn goes_by_passt(&self) -> bool {
        self.networks.is_empty() && self.network_mode == USER_NETWORK
    }

    /// Whether its ports can be reached.
    pub(crate) fn is_reached(&self) -> bool {
        !self.networks.is_empty() || self.goes_by_passt()
    }
}

impl Record {
    /// `USER[:GROUP]` of its own process, as it was asked for.
    #[must_use]
    pub fn user(&self) -> String {
        let User { user, group } = &self.container.process.user;
        group.as_ref().map_or_else(|| user.clone(), |group| format!("{user}:{group}"))
    }

    /// The memory that a process was killed for want of, in words.
    pub(crate) fn memory_that_ran_out(&self, memory: OutOfMemory) -> String {
        let machine = Size { bytes: u64::from(self.vm.memory_mib) << 20 };
        match (memory, self.container.limits.memory_bytes) {
            (OutOfMemory::Limit, Some(bytes)) => {
                format!("the container's limit of {}", Size { bytes })
            }
            (OutOfMemory::Limit, None) => "a limit that the container has set".to_owned(),
            (OutOfMemory::Machine, _) => format!("the machine's memory of {machine}"),
        }
    }
}

/// How far a container has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Where it is.
    pub status: Status,
    /// The code of its last end, as a shell shows it.
    #[serde(default)]
    pub exit_code: u8,
    /// Whether its last end was the kernel's, for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// What memory that was, in words; empty if it was not.
    #[serde(default)]
    pub oom_limit: String,
    /// Why its last start or life failed; empty if it did not.
    #[serde(default)]
    pub error: String,
    /// The process that looks after it.
    #[serde(default)]
    pub supervisor: Option<i32>,
    /// When its program began last.
    #[serde(default)]
    pub started: Option<Moment>,
    /// When it ended last.
    #[serde(default)]
    pub finished: Option<Moment>,
    /// The ports of the host that lead to it, while it runs.
    #[serde(default)]
    pub ports: Vec<Published>,
    /// Who carries its frames, while it runs; none where there are none.
    #[serde(default)]
    pub carrier: Option<Carrier>,
    /// How often its restart policy has started it again since a person did.
    #[serde(default)]
    pub restarts: u32,
    /// Whether a person has ended it, or tried to, since they have started it.
    #[serde(default)]
    pub stopped: bool,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has never run, or its program could not be started.
    Created,
    /// Somebody is starting it.
    Starting,
    /// Its program runs.
    Running,
    /// Its program runs, and was halted.
    Paused,
    /// Its program has ended, and is about to be started again.
    Restarting,
    /// Its program has ended.
    Exited,
    /// It cannot be started again, nor could it be removed.
    Dead,
}

impl Status {
    /// Whether a supervisor looks after it, who holds its lock.
    #[must_use]
    pub fn is_supervised(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Restarting)
    }

    /// Docker's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

impl State {
    /// Of a container that has not run.
    pub(crate) fn new(status: Status) -> Self {
        Self {
            version: VERSION,
            status,
            exit_code: 0,
            oom_killed: false,
            oom_limit: String::new(),
            error: String::new(),
            supervisor: None,
            started: None,
            finished: None,
            ports: Vec::new(),
            carrier: None,
            restarts: 0,
            stopped: false,
        }
    }

    /// After an end with `exit_code`.
    pub(crate) fn ended(self, exit_code: u8, error: String) -> Self {
        let finished = Some(Moment::now());
        let status = Status::Exited;
        let (ports, carrier) = (Vec::new(), None);
        Self { status, exit_code, error, supervisor: None, finished, ports, carrier, ..self }
    }

    /// Whether it tells the same as another one, but for the moment of the end.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        *self == Self { finished: self.finished, ..other.clone() }
    }
}

/// Why a document is of no use.
#[derive(Debug, Error)]
pub(crate) enum DocumentError {
    #[error("it was written by a newer hyperrun (version {version}, this one knows {VERSION})")]
    Newer { version: u32 },
    #[error("{0}")]
    Broken(serde_json::Error),
}

/// Reads a document.
///
/// # Errors
/// When it is newer than this program, or no such document.
pub(crate) fn parse<D: DeserializeOwned>(text: &[u8]) -> Result<D, DocumentError> {
    match version(text).map_err(DocumentError::Broken)? {
        version if version > VERSION => Err(DocumentError::Newer { version }),
        _ => serde_json::from_slice(text).map_err(DocumentError::Broken),
    }
}

/// The one field that every version has. It comes first, and nothing behind it is read.
fn version(text: &[u8]) -> Result<u32, serde_json::Error> {
    let mut found = Beginning::default();
    let read = found.read(text, |found| found.version.is_some());
    found.version.ok_or_else(|| read.expect_err("none without a version is read"))
}

/// What a container goes by, from the beginning of its record: nothing behind it is read. None if it does
/// not stand there, or the record is a newer one.
pub(super) fn head(beginning: &[u8]) -> Option<Head> {
    let mut found = Beginning::default();
    // Where all was found, the complaint is that there is more behind it.
    let _ = found.read(beginning, |found| found.id.is_some() && found.name.is_some());
    let Beginning { version: Some(..=VERSION), id: Some(id), name: Some(name) } = found else {
        return None;
    };
    Some(Head { id, name })
}

/// The first fields of a document.
#[derive(Default)]
struct Beginning {
    version: Option<u32>,
    id: Option<String>,
    name: Option<String>,
}

impl Beginning {
    /// Reads fields until there is enough.
    ///
    /// # Errors
    /// When there never is, and when there is more behind it.
    fn read(
        &mut self,
        text: &[u8],
        is_enough: impl Fn(&Self) -> bool,
    ) -> Result<(), serde_json::Error> {
        struct Seek<'a, E>(&'a mut Beginning, E);

        impl<'de, E: Fn(&Beginning) -> bool> Visitor<'de> for Seek<'_, E> {
            type Value = ();

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a document with a version")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
                let Self(found, is_enough) = self;
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    match (&*key, found.version) {
                        ("version", _) => found.version = Some(map.next_value()?),
                        // Whatever a newer one calls so.
                        ("id", Some(..=VERSION)) => found.id = Some(map.next_value()?),
                        ("name", Some(..=VERSION)) => found.name = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                    if is_enough(found) {
                        return Ok(());
                    }
                }
                Err(serde::de::Error::missing_field("version"))
            }
        }

        serde_json::Deserializer::from_slice(text).deserialize_map(Seek(self, is_enough))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use protocol::{Capabilities, Device, EtcFiles, Limits, ProcessSpec, WallClock};

    /// A record of a container that says hello.
    pub(crate) fn sample(id: &str, name: &str) -> Record {
        let process = ProcessSpec {
            args: vec![b"echo".to_vec(), vec![0xff, b'h']],
            env: vec![b"A=b".to_vec()],
            working_dir: "/".into(),
            user: User::default(),
            terminal: None,
            stdin: false,
            limits: Vec::new(),
            more_groups: Vec::new(),
            capabilities: Capabilities::default(),
            no_new_privileges: false,
            oom_score_adjustment: None,
            seccomp: Vec::new(),
        };
        let container = ContainerSpec {
            image_disk: Device { index: 0 },
            scratch_disk: Device { index: 1 },
            read_only: false,
            hostname: name.to_owned(),
            etc: EtcFiles::default(),
            shm_bytes: 64 << 20,
            wall_clock: WallClock { seconds: 0, nanoseconds: 0 },
            entropy: [0; 32],
            domain_name: String::new(),
            tmpfs: Vec::new(),
            volumes: Vec::new(),
            sysctls: Vec::new(),
            privileged: false,
            init: false,
            limits: Limits::default(),
            networks: Vec::new(),
            process,
        };
        Record {
            version: VERSION,
            id: id.to_owned(),
            name: name.to_owned(),
            created: Moment(std::time::UNIX_EPOCH + std::time::Duration::new(1, 5)),
            image_id: format!("sha256:{}", "0".repeat(64)),
            image: "busybox".to_owned(),
            entrypoint: Vec::new(),
            command: vec!["echo".to_owned()],
            keeping: Keeping::default(),
            template: true,
            vm: VmConfig { memory_mib: 512, vcpus: 1 },
            scratch: ScratchSize::DEFAULT,
            ground: Ground::Usual,
            host: HostLimits::default(),
            ports: Ports::default(),
            dns: Dns::default(),
            wishes: Wishes::default(),
            network_mode: NO_NETWORK.to_owned(),
            networks: Vec::new(),
            copy_of: None,
            container,
        }
    }

    #[test]
    fn records_come_back_as_they_went() {
        let record = sample("a", "web");
        let text = serde_json::to_vec(&record).unwrap();
        assert_eq!(parse::<Record>(&text).unwrap(), record);
        let Record { name, container, .. } = parse::<Record<Unread>>(&text).unwrap();
        assert_eq!((&name, container), (&record.name, Unread));
        assert_eq!(parse::<Head>(&text).unwrap(), record.head());
        let state = State::new(Status::Running).ended(7, "x".into());
        let text = serde_json::to_vec(&state).unwrap();
        assert_eq!(parse::<State>(&text).unwrap(), state);
        assert_eq!(parse::<State>(br#"{"version":1,"status":"paused"}"#).unwrap().exit_code, 0);
    }

    #[test]
    fn memory_that_ran_out_is_told_by_its_size() {
        let mut record = sample("a", "web");
        let told = |record: &Record, memory| record.memory_that_ran_out(memory);
        assert_eq!(told(&record, OutOfMemory::Machine), "the machine's memory of 512m");
        assert_eq!(told(&record, OutOfMemory::Limit), "a limit that the container has set");
        record.container.limits.memory_bytes = Some(4 << 20);
        assert_eq!(told(&record, OutOfMemory::Limit), "the container's limit of 4m");
    }

    #[test]
    fn a_beginning_tells_what_a_container_goes_by() {
        let id = "a".repeat(64);
        let record = serde_json::to_vec(&sample(&id, "web")).expect("it is plain");
        let found = head(&record[..record.len().min(256)]).expect("it stands first");
        assert_eq!((found.id, found.name.as_str()), (id, "web"));
        for none in [
            &record[..64],
            br#"{"version":2,"id":"a","name":"web"}"#,
            br#"{"version":1,"name":"web","image":"a"}"#,
            br#"{"id":"a","name":"web","version":1}"#,
            b"",
        ] {
            assert!(head(none).is_none(), "{}", String::from_utf8_lossy(none));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        for newer in [r#"{"version":2,"shape":"unknown"}"#, r#"{"shape":{"a":[1]},"version":2}"#] {
            let parsed = parse::<State>(newer.as_bytes());
            assert!(matches!(parsed, Err(DocumentError::Newer { version: 2 })), "{newer}");
        }
        let last = br#"{"status":"paused","version":1}"#;
        assert_eq!(parse::<State>(last).unwrap(), State::new(Status::Paused));
        for broken in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"version":"1","status":"paused"}"#,
            r#"{"version":1}"#,
            r#"{"version":1,"status":"up"}"#,
            r#"{"version":1,"status":"paused"}}"#,
        ] {
            let parsed = parse::<State>(broken.as_bytes());
            assert!(matches!(parsed, Err(DocumentError::Broken(_))), "{broken}");
        }
    }
}
