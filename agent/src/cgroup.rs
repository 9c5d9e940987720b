//! The container's cgroup: its limits, its devices, and the way to kill all of it at once.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::fs::{Mode, OFlags, open};

use crate::{
    bpf,
    step::{Doing, StepError},
};

const ROOT: &str = "/sys/fs/cgroup";
const CONTAINER: &str = "/sys/fs/cgroup/container";

/// The controllers a container gets, those of them that this kernel has.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// The period `cpu.max` counts in, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// The one container's cgroup, closed to all devices but the harmless ones.
pub(crate) struct Cgroup {
    folder: OwnedFd,
}

impl Cgroup {
    /// Makes the cgroup, before it is known what it will hold.
    pub(crate) fn make() -> Result<Self, StepError> {
        let available = format!("{ROOT}/cgroup.controllers");
        let available = fs::read_to_string(&available).doing("read the kernel's controllers")?;
        let wanted: Vec<String> = available
            .split_ascii_whitespace()
            .filter(|name| CONTROLLERS.contains(name))
            .map(|name| format!("+{name}"))
            .collect();
        fs::write(format!("{ROOT}/cgroup.subtree_control"), wanted.join(" "))
            .doing("enable the container's controllers")?;
        fs::create_dir(CONTAINER).doing("make the container's cgroup")?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = open(CONTAINER, flags, Mode::empty()).doing("open the container's cgroup")?;
        bpf::restrict_devices(folder.as_fd()).doing("close the container's devices")?;
        Ok(Self { folder })
    }

    /// What a process is cloned into.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Limits the container to `quota_us` of CPU time per 100 ms.
    pub(crate) fn limit_cpu(&self, quota_us: u64) -> Result<(), StepError> {
        fs::write(format!("{CONTAINER}/cpu.max"), format!("{quota_us} {CPU_PERIOD_US}"))
            .doing("limit the container's CPU time")
    }

    /// Kills every process of the container.
    pub(crate) fn kill(&self) -> Result<(), StepError> {
        fs::write(format!("{CONTAINER}/cgroup.kill"), "1").doing("kill the container")
    }
}
