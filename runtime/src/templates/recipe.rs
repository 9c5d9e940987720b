//! What a template depends on, and the name that follows from it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use images::Digest;

use crate::error::Error;
use crate::guest_files::{find_agent, find_kernel};
use crate::host;
use crate::plan::VmConfig;

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
}

impl Recipe<'_> {
    /// The name of the template: a hash of this program, kernel and agent (by their inodes, sizes and
    /// times, since reading them would take longer than a start), of the processor and the host's
    /// kernel, and of the shape.
    ///
    /// # Errors
    /// When one of the files is gone.
    pub(crate) fn wanted(&self) -> Result<Wanted, Error> {
        let mut text = format!("{}\n{}\n", env!("CARGO_PKG_VERSION"), host::processor());
        for path in [Path::new("/proc/self/exe"), self.kernel, self.agent] {
            let metadata = fs::metadata(path).map_err(|source| Error::File {
                action: "look at",
                path: path.to_owned(),
                source,
            })?;
            text.push_str(&format!(
                "{} {} {} {}.{}\n",
                metadata.dev(),
                metadata.ino(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec()
            ));
        }
        let basis = name(&text);
        text.push_str(&format!("{} {}\n", self.shape.memory_mib, self.shape.vcpus));
        let kernel = self.kernel.to_owned();
        Ok(Wanted { key: name(&text), basis, shape: self.shape, kernel })
    }
}

fn name(text: &str) -> String {
    Digest::of(text.as_bytes()).hex()[..NAME_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
