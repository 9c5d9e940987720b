//! Finds the guest's kernel and agent, the client of registries and the resolver of names: named by the environment, beside the binary, or under
//! `lib/hyperrun` of its prefix.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file a guest is made of, or its image is fetched by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Why that one.
    pub origin: Origin,
}

/// How a [`GuestFile`] was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This environment variable names it.
    Variable(&'static str),
    /// It lies beside the binary.
    BesideBinary,
    /// It lies under `lib/hyperrun` of the binary's prefix.
    Prefix,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(formatter, "from {name}"),
            Self::BesideBinary => formatter.write_str("beside the binary"),
            Self::Prefix => formatter.write_str("under lib/hyperrun"),
        }
    }
}

/// Finds the guest kernel, an uncompressed `vmlinux`.
pub fn find_kernel() -> Result<GuestFile, Error> {
    find("guest kernel", "vmlinux", "HYPERRUN_KERNEL")
}

/// Finds the agent, packed as an initramfs.
pub fn find_agent() -> Result<GuestFile, Error> {
    find("agent", "initramfs.cpio", "HYPERRUN_AGENT")
}

/// Finds `hyperrun-registry`, which talks to registries.
pub fn find_registry() -> Result<GuestFile, Error> {
    find("registry client", "hyperrun-registry", "HYPERRUN_REGISTRY")
}

/// Finds `hyperrun-resolver`, which answers for the names of containers.
pub fn find_resolver() -> Result<GuestFile, Error> {
    find("resolver", "hyperrun-resolver", "HYPERRUN_RESOLVER")
}

fn find(what: &'static str, name: &str, variable: &'static str) -> Result<GuestFile, Error> {
    let missing = |looked: Vec<PathBuf>| Error::GuestFile { what, variable, looked };
    if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) {
        let found = path.is_file();
        return if found {
            Ok(GuestFile { path, origin: Origin::Variable(variable) })
        } else {
            Err(missing(vec![path]))
        };
    }
    let binary = env::current_exe()
        .map_err(|source| Error::System { action: "find the running binary", source })?;
    let candidates = candidates(&binary, name);
    match candidates.iter().find(|candidate| candidate.path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(missing(candidates.into_iter().map(|candidate| candidate.path).collect())),
    }
}

fn candidates(binary: &Path, name: &str) -> Vec<GuestFile> {
    let folder = binary.parent().unwrap_or(Path::new("/"));
    let prefix = folder.parent().unwrap_or(Path::new("/"));
    vec![
        GuestFile { path: folder.join(name), origin: Origin::BesideBinary },
        GuestFile { path: prefix.join("lib/hyperrun").join(name), origin: Origin::Prefix },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_for_beside_the_binary_and_under_its_prefix() {
        let paths: Vec<_> = candidates(Path::new("/usr/bin/hyperrun"), "vmlinux")
            .into_iter()
            .map(|file| file.path)
            .collect();
        assert_eq!(paths, [Path::new("/usr/bin/vmlinux"), Path::new("/usr/lib/hyperrun/vmlinux")]);
    }
}
