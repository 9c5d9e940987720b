//! The files in `/etc` that tell a container about itself, laid over those of the image.

use std::{fs, os::fd::OwnedFd, path::Path};

use protocol::ContainerSpec;
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
    /// Writes the files to the agent's own `/etc`.
    pub(crate) fn write(spec: &ContainerSpec) -> Result<Self, StepError> {
        let hostname = format!("{}\n", spec.hostname);
        let contents = [
            ("/etc/hostname", &hostname),
            ("/etc/hosts", &spec.etc.hosts),
            ("/etc/resolv.conf", &spec.etc.resolv_conf),
        ];
        let mut files = Vec::new();
        for (path, content) in contents {
            fs::write(path, content).doing(format_args!("write the container's {path}"))?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
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
