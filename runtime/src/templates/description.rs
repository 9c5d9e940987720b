//! `template.json`: what a person, and whoever clears up, may know about a template. No start reads
//! it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use images::Digest;
use serde::{Deserialize, Serialize};

use super::recipe::Wanted;

/// The name of the file in the template's folder.
const FILE: &str = "template.json";
const VERSION: u32 = 1;
/// No description is longer, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What is known about a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    version: u32,
    /// The memory of its machines, in MiB.
    pub memory_mib: u32,
    /// Their vCPUs.
    pub vcpus: u8,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// A hash of all that it depends on but the shape: templates of the same basis are of use to the
    /// same program.
    pub(super) basis: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The checksum of its memory; none for one that was made before there was any.
    #[serde(default)]
    pub(super) memory_sum: Option<u32>,
    /// The image that it is of; none for one that serves all.
    #[serde(default)]
    pub image: Option<Digest>,
    /// The checksum of the writable disk of an image's template.
    #[serde(default)]
    pub(super) scratch_sum: Option<u32>,
    /// The checksum of the prepared kernel, if there is one.
    #[serde(default)]
    pub(super) kernel_sum: Option<u32>,
}

/// The checksums of a template's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    /// Of its memory.
    pub(super) memory: u32,
    /// Of its writable disk, if it has one.
    pub(super) scratch: Option<u32>,
    /// Of the prepared kernel, if it has one.
    pub(super) kernel: Option<u32>,
}

impl Description {
    /// Describes a template that is made now, with these checksums.
    pub(super) fn new(wanted: &Wanted, sums: Sums) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            version: VERSION,
            memory_mib: wanted.shape.memory_mib,
            vcpus: wanted.shape.vcpus,
            kernel: wanted.kernel.clone(),
            basis: wanted.basis.clone(),
            created: now.unwrap_or_default().as_secs(),
            memory_sum: Some(sums.memory),
            image: wanted.image,
            scratch_sum: sums.scratch,
            kernel_sum: sums.kernel,
        }
    }

    /// Puts it into the template's folder, and onto the disk.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut file = File::create(folder.join(FILE))?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.sync_all()
    }

    /// The one in this folder, if there is a sound one of this version.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let path = folder.join(FILE);
        if fs::metadata(&path).ok()?.len() > MAX_BYTES {
            return None;
        }
        let found: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (found.version == VERSION).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::VmConfig;

    #[test]
    fn a_description_is_read_as_it_was_written_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Description::read(folder.path()), None);
        let wanted = Wanted {
            key: "k".to_owned(),
            basis: "b".to_owned(),
            shape: VmConfig { memory_mib: 512, vcpus: 2 },
            kernel: "/vmlinux".into(),
            image: Some(Digest::of(b"image")),
        };
        let sums = Sums { memory: 7, scratch: Some(9), kernel: Some(11) };
        let description = Description::new(&wanted, sums);
        description.write(folder.path()).unwrap();
        assert_eq!(Description::read(folder.path()), Some(description.clone()));
        let text = serde_json::to_string(&description).unwrap();
        let (older, _) = text.split_once(",\"memory_sum\"").unwrap();
        let older = format!("{older}}}");
        fs::write(folder.path().join(FILE), &older).unwrap();
        let without = Description {
            memory_sum: None,
            image: None,
            scratch_sum: None,
            kernel_sum: None,
            ..description
        };
        assert!(Description::read(folder.path()) == Some(without));
        for wrong in ["", "{}", &text.replace(":1,", ":2,"), &text.replace("{", "{\"x\":1,")] {
            fs::write(folder.path().join(FILE), wrong).unwrap();
            assert_eq!(Description::read(folder.path()), None, "{wrong}");
        }
    }
}
