//! `snapshot.json`: the container that a snapshot was made of, and what a host must have for it.

use images::{Disk, Image};
use serde::{Deserialize, Serialize};
use vmm::config::{MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB};

use super::error::SnapshotError;
use crate::containers::Record;
use crate::host;
use crate::moment::Moment;
use crate::places::Places;
use crate::spec::{ContainerName, Hostname};

/// The version of the document. One that is raised was not understood before; fields that are added with
/// a default do not raise it.
pub(super) const VERSION: u32 = 1;

/// What is known about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub(super) version: u32,
    /// 64 hex digits.
    pub id: String,
    /// What it was called at first; what counts is its folder's name.
    pub(super) name: String,
    /// When it was made.
    pub created: Moment,
    /// The container, as it was.
    pub container: Record,
    /// The hyperrun that has made it.
    pub hyperrun: String,
    /// What it depends on.
    pub(super) needs: Needs,
    /// The pieces of its image's disk.
    pub(super) disk: Vec<Piece>,
    /// How long the container stood still, in microseconds.
    pub pause_us: u64,
    /// How much was written, in bytes.
    pub written: u64,
    /// What it differs from, by that one's name when it was saved.
    #[serde(default)]
    pub parent: Option<String>,
    /// How many files lie beneath those of its memory and of its disk.
    #[serde(default)]
    pub(super) beneath: u8,
}

/// What a host must have for a saved machine to go on there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Needs {
    /// The version of what host and guest say to each other: the agent is in the saved memory.
    pub(super) protocol: u32,
    /// Its processor's features, and those that its KVM has.
    pub(super) processor: String,
    /// Its kernel's release.
    pub(super) kernel: String,
}

/// A file of an image's disk, by its place in the store: what lies there goes by the digest of what is in
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    file: String,
    offset: u64,
    length: u64,
}

impl Needs {
    /// Those that this host satisfies.
    pub(super) fn here() -> Self {
        Self { protocol: protocol::VERSION, processor: host::processor(), kernel: host::kernel().0 }
    }

    /// What this host lacks, in words.
    fn lacking(&self) -> Option<String> {
        let Self { protocol, processor, kernel } = Self::here();
        if self.protocol != protocol {
            let theirs = self.protocol;
            return Some(format!("its agent speaks version {theirs}, this hyperrun {protocol}"));
        }
        if self.processor != processor {
            return Some("it was made on another kind of processor".to_owned());
        }
        let theirs: String = self.kernel.chars().filter(|letter| !letter.is_control()).collect();
        (self.kernel != kernel)
            .then(|| format!("it was made under Linux {theirs}, and this is {kernel}"))
    }
}

/// The pieces of an image's disk, by their places in the store.
pub(super) fn pieces(image: &Image, places: &Places) -> Result<Vec<Piece>, images::Error> {
    let Disk { extents } = image.disk()?;
    let store = places.images();
    let piece = |extent: images::Extent| {
        let path = extent.path.strip_prefix(&store).unwrap_or(&extent.path);
        let file = path.display().to_string();
        Piece { file, offset: extent.offset, length: extent.length }
    };
    Ok(extents.into_iter().map(piece).collect())
}

impl Description {
    /// The memory of its machine, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        u64::from(self.container.vm.memory_mib) << 20
    }

    /// Whether it can go on here, as far as its document tells.
    pub(super) fn check_host(&self, name: &str) -> Result<(), SnapshotError> {
        match self.needs.lacking() {
            None => Ok(()),
            Some(what) => Err(SnapshotError::Unfit { name: name.to_owned(), what }),
        }
    }

    /// Whether an image's disk is the one that its guest has mounted.
    pub(super) fn check_disk(
        &self,
        name: &str,
        image: &Image,
        places: &Places,
    ) -> Result<(), crate::Error> {
        if self.disk == pieces(image, places)? {
            return Ok(());
        }
        let what = "its image lies on another kind of disk here".to_owned();
        Err(SnapshotError::Unfit { name: name.to_owned(), what }.into())
    }

    /// Reads a document.
    pub(super) fn parse(text: &[u8], name: &str) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let name = || name.to_owned();
        let broken = |error: serde_json::Error| SnapshotError::Damaged {
            name: name(),
            what: error.to_string(),
        };
        let Version { version } = serde_json::from_slice(text).map_err(broken)?;
        if version > VERSION {
            return Err(SnapshotError::Newer { name: name(), version });
        }
        serde_json::from_slice(text).map_err(broken)
    }

    /// Whether all in it is what a hyperrun could have written, for one that comes from elsewhere; what is
    /// wrong.
    pub(super) fn check_sense(&self) -> Result<(), &'static str> {
        let record = &self.container;
        let is_id =
            |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        let shape = record.vm;
        let memory = MIN_MEMORY_MIB..=MAX_MEMORY_MIB;
        let checks = [
            (is_id(&self.id) && is_id(&record.id), "an id is none"),
            (record.name.parse::<ContainerName>().is_ok(), "its container's name is none"),
            (record.container.hostname.parse::<Hostname>().is_ok(), "its host name is none"),
            (record.image_id.parse::<images::Digest>().is_ok(), "its image's id is none"),
            (is_plain(&record.image) && is_plain(&self.hyperrun), "a name has control characters"),
            (memory.contains(&shape.memory_mib), "no machine has so much memory"),
            ((1..=MAX_VCPUS).contains(&shape.vcpus), "no machine has so many CPUs"),
        ];
        let wrong = checks.iter().find(|(is_right, _)| !is_right);
        wrong.map_or(Ok(()), |(_, what)| Err(what))
    }
}
