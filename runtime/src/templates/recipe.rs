//! What a template depends on, and the name that follows from it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use images::Digest;
use vmm::config::DiskExtent;

use crate::error::Error;
use crate::guest_files::{find_agent, find_kernel};
use crate::host;
use crate::plan::VmConfig;
use crate::scratch::Blank;

/// How much of a hash is a name, in hexadecimal digits.
const NAME_DIGITS: usize = 16;

/// What a template depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe<'a> {
    /// The guest's kernel.
    pub(crate) kernel: &'a Path,
    /// The agent.
    pub(crate) agent: &'a Path,
    /// The machine's shape.
    pub(crate) shape: VmConfig,
}

/// The one template that fits, which may be there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) key: String,
    /// A hash of all that it depends on but its shape.
    pub(crate) basis: String,
    /// Its machine's shape.
    pub(crate) shape: VmConfig,
    /// The kernel in it.
    pub(crate) kernel: PathBuf,
    /// The image that it is of; none for one that serves all.
    pub(crate) image: Option<Digest>,
}

impl Wanted {
    /// The template of machines of this shape, with the kernel and the agent that a run would use.
    ///
    /// # Errors
    /// When kernel or agent are not there.
    pub(crate) fn of(shape: VmConfig) -> Result<Self, Error> {
        let (kernel, agent) = (find_kernel()?.path, find_agent()?.path);
        Recipe { kernel: &kernel, agent: &agent, shape }.wanted()
    }

    /// The template of the same machines with the disks of an image mounted: the image's pieces as they
    /// lie on this host, and the blank of the writable one.
    ///
    /// # Errors
    /// When one of the files cannot be looked at.
    pub(crate) fn with_image(
        &self,
        id: Digest,
        disk: &[DiskExtent],
        blank: &Blank,
    ) -> io::Result<Self> {
        let mut text = format!("{}\n{}\n{:?}\n", self.key, id.hex(), blank.journal);
        text.push_str(&identity(&blank.file.metadata()?));
        for DiskExtent { file, offset, length } in disk {
            text.push_str(&format!("{offset} {length} {}", identity(&file.metadata()?)));
        }
        Ok(Self { key: name(&text), image: Some(id), ..self.clone() })
    }
}

impl Recipe<'_> {
    /// The name of the template: a hash of this program, kernel and agent (by their inodes, sizes and
    /// times, since reading them would take longer than a start), of the processor and the host's
    /// kernel, and of the shape.
    ///
    /// # Errors
    /// When one of the files is gone.
    pub(crate) fn wanted(&self) -> Result<Wanted, Error> {
        let (release, version) = host::kernel();
        let host = format!("{} {release} {version}", host::processor());
        let mut text = format!("{}\n{host}\n", env!("CARGO_PKG_VERSION"));
        for path in [Path::new("/proc/self/exe"), self.kernel, self.agent] {
            let metadata = fs::metadata(path).map_err(|source| Error::File {
                action: "look at",
                path: path.to_owned(),
                source,
            })?;
            text.push_str(&identity(&metadata));
        }
        let basis = name(&text);
        text.push_str(&format!("{} {}\n", self.shape.memory_mib, self.shape.vcpus));
        let kernel = self.kernel.to_owned();
        Ok(Wanted { key: name(&text), basis, shape: self.shape, kernel, image: None })
    }
}

/// What tells a file from another one, and from what it was before.
fn identity(file: &fs::Metadata) -> String {
    let (device, inode, bytes) = (file.dev(), file.ino(), file.len());
    format!("{device} {inode} {bytes} {}.{}\n", file.mtime(), file.mtime_nsec())
}

fn name(text: &str) -> String {
    Digest::of(text.as_bytes()).hex()[..NAME_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ScratchSize;
    use crate::scratch::Journal;
    use std::fs::File;

    #[test]
    fn a_key_depends_on_the_shape_and_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, agent) = (folder.path().join("kernel"), folder.path().join("agent"));
        let wanted = |memory_mib, vcpus| {
            let shape = VmConfig { memory_mib, vcpus };
            Recipe { kernel: &kernel, agent: &agent, shape }.wanted()
        };
        assert!(wanted(512, 1).is_err());
        fs::write(&kernel, "k").unwrap();
        fs::write(&agent, "a").unwrap();
        let first = wanted(512, 1).unwrap();
        assert_eq!(wanted(512, 1).unwrap(), first);
        for (memory_mib, vcpus) in [(512, 2), (256, 1)] {
            let other = wanted(memory_mib, vcpus).unwrap();
            assert_ne!(other.key, first.key);
            assert_eq!(other.basis, first.basis);
        }
        fs::write(&agent, "another").unwrap();
        let other = wanted(512, 1).unwrap();
        assert!(other.key != first.key && other.basis != first.basis);
    }

    #[test]
    fn an_images_key_depends_on_its_disk_and_on_the_blank() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer");
        fs::write(&path, "layer").unwrap();
        let base = crate::templates::tests::wanted("base");
        let blank = |journal| Blank {
            file: File::open(&path).unwrap(),
            journal,
            size: ScratchSize::DEFAULT,
        };
        let (with, without) = (blank(Journal::With), blank(Journal::Without));
        let disk = |lengths: &[u64]| -> Vec<DiskExtent> {
            let file = || File::open(&path).unwrap();
            lengths.iter().map(|&length| DiskExtent { file: file(), offset: 0, length }).collect()
        };
        let key = |base: &Wanted, name: &[u8], lengths: &[u64], blank: &Blank| {
            let wanted = base.with_image(Digest::of(name), &disk(lengths), blank).unwrap();
            assert_eq!((wanted.image, &wanted.basis), (Some(Digest::of(name)), &base.basis));
            wanted.key
        };
        let first = key(&base, b"i", &[4096], &with);
        assert_eq!(key(&base, b"i", &[4096], &with), first);
        let mut others = vec![
            key(&base, b"j", &[4096], &with),
            key(&base, b"i", &[8192], &with),
            key(&base, b"i", &[4096, 4096], &with),
            key(&base, b"i", &[4096], &without),
            key(&crate::templates::tests::wanted("other"), b"i", &[4096], &with),
        ];
        fs::write(&path, "another layer").unwrap();
        others.push(key(&base, b"i", &[4096], &with));
        assert!(others.iter().all(|other| *other != first && *other != base.key));
    }
}
