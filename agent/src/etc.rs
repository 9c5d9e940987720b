//! The files in `/etc` that tell a container about itself, laid over those of the image.

use std::{fs, os::fd::OwnedFd, path::Path};

use protocol::{ContainerSpec, EtcFiles};
use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use crate::{
    inside,
    step::{Doing, StepError},
};

/// The files, written and ready to be mounted by a process that can no longer see them.
pub(crate) struct EtcMounts {
    files: Vec<EtcFile>,
}

struct EtcFile {
    path: &'static str,
    mount: OwnedFd,
}

impl EtcMounts {
    /// The files as they are found in a container.
    pub(crate) const PATHS: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

    /// Writes the files to the agent's own `/etc`.
    pub(crate) fn write(spec: &ContainerSpec) -> Result<Self, StepError> {
        Self::rewrite(&spec.hostname, &spec.etc)?;
        Self::find()
    }

    /// Writes the files where they are mounted already.
    pub(crate) fn rewrite(hostname: &str, etc: &EtcFiles) -> Result<(), StepError> {
        write_all([&format!("{hostname}\n"), &etc.hosts, &etc.resolv_conf])
    }

    /// Writes another `/etc/resolv.conf` where it is mounted already, if it is what was written last.
    pub(crate) fn resolve(before: &str, after: &str) -> Result<(), StepError> {
        let path = Self::PATHS[2];
        let now = fs::read(path).doing(format_args!("read the container's {path}"))?;
        if now != before.as_bytes() {
            return Ok(());
        }
        fs::write(path, after).doing(format_args!("write the container's {path}"))
    }

    /// Makes empty files, to be mounted before it is known what will be in them.
    pub(crate) fn write_blank() -> Result<Self, StepError> {
        write_all([""; 3])?;
        Self::find()
    }

    /// Finds the files that were written before.
    pub(crate) fn find() -> Result<Self, StepError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mut files = Vec::new();
        for path in Self::PATHS {
            let mount =
                open_tree(CWD, path, flags).doing(format_args!("prepare the mount of {path}"))?;
            files.push(EtcFile { path, mount });
        }
        Ok(Self { files })
    }

    /// Mounts the files in the calling process's root.
    pub(crate) fn attach(&self) -> Result<(), StepError> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        for EtcFile { path, mount } in &self.files {
            let target = inside::open_or_make_file(Path::new(path))
                .doing(format_args!("make a place for {path}"))?;
            move_mount(mount, "", &target, "", flags).doing(format_args!("mount {path}"))?;
        }
        Ok(())
    }
}

fn write_all(contents: [&str; 3]) -> Result<(), StepError> {
    for (path, content) in EtcMounts::PATHS.into_iter().zip(contents) {
        fs::write(path, content).doing(format_args!("write the container's {path}"))?;
    }
    Ok(())
}
