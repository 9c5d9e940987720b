//! The container's cgroup: its limits, its devices, and the way to kill all of it at once.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use protocol::{Limits, OutOfMemory};
use rustix::{
    fs::{Mode, OFlags, open},
    process::Pid,
};

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

/// Whether processes stand still.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frost {
    /// They do.
    On,
    /// They go on.
    Off,
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

    /// Sets the limits of a cgroup that has none yet.
    pub(crate) fn begin(&self, limits: &Limits) -> Result<(), StepError> {
        let mut asked = files(limits).into_iter().filter(|limit| limit.value.is_some());
        asked.try_for_each(|limit| limit.write())
    }

    /// Sets all limits anew, and takes away what is not among them.
    pub(crate) fn update(&self, limits: &Limits) -> Result<(), StepError> {
        files(limits).into_iter().try_for_each(|limit| limit.write())
    }

    /// Takes the lock off the machine's devices.
    pub(crate) fn open_devices(&self) -> Result<(), StepError> {
        bpf::free_devices(self.folder.as_fd()).doing("open the machine's devices")
    }

    /// Kills every process of the container.
    pub(crate) fn kill(&self) -> Result<(), StepError> {
        fs::write(format!("{CONTAINER}/cgroup.kill"), "1").doing("kill the container")
    }

    /// Freezes the processes or lets them go on.
    pub(crate) fn freeze(&self, frost: Frost) -> Result<(), StepError> {
        let text = if frost == Frost::On { "1" } else { "0" };
        fs::write(format!("{CONTAINER}/cgroup.freeze"), text).doing("freeze the container")
    }

    /// Whether a process was killed since memory ran out, and which memory that was: a limit that
    /// was never reached had no part in it.
    pub(crate) fn out_of_memory(&self) -> Option<OutOfMemory> {
        let events = self.read("memory.events")?;
        value(&events, "oom_kill").filter(|count| *count > 0)?;
        let reached = value(&events, "oom").is_some_and(|count| count > 0);
        Some(if reached { OutOfMemory::Limit } else { OutOfMemory::Machine })
    }

    /// All its processes.
    pub(crate) fn processes(&self) -> io::Result<Vec<Pid>> {
        let text = fs::read_to_string(format!("{CONTAINER}/cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect())
    }

    /// A file of the cgroup; none if this kernel has no such file.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(format!("{CONTAINER}/{name}")).ok()
    }
}

/// The file that tells when the container's processes stand still.
pub(crate) fn events() -> Result<File, StepError> {
    File::open(format!("{CONTAINER}/cgroup.events")).doing("open the container's events")
}

/// A limit as it is written.
struct LimitFile {
    name: &'static str,
    /// None is `default`.
    value: Option<String>,
    default: &'static str,
}

impl LimitFile {
    fn write(&self) -> Result<(), StepError> {
        let text = self.value.as_deref().unwrap_or(self.default);
        fs::write(format!("{CONTAINER}/{}", self.name), text)
            .doing(format_args!("write {text} to the container's {}", self.name))
    }
}

fn files(limits: &Limits) -> [LimitFile; 5] {
    let number = |limit: Option<u64>| limit.map(|number| number.to_string());
    let quota = limits.cpu_quota_us.map(|quota_us| format!("{quota_us} {CPU_PERIOD_US}"));
    let file = |name, value, default| LimitFile { name, value, default };
    [
        file("cpu.max", quota, "max"),
        file("cpu.weight", number(limits.cpu_weight.map(u64::from)), "100"),
        file("memory.max", number(limits.memory_bytes), "max"),
        file("memory.low", number(limits.memory_reserved_bytes), "0"),
        file("pids.max", number(limits.pids), "max"),
    ]
}

/// The number behind `key` in a file of such lines.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_behind_whole_keys() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        for (key, wanted) in [
            ("oom", Some(3)),
            ("oom_kill", Some(2)),
            ("max", Some(12)),
            ("oo", None),
            ("missing", None),
        ] {
            assert_eq!(value(events, key), wanted, "{key}");
        }
        assert_eq!(value("frozen", "frozen"), None);
        assert_eq!(value("frozen x\n", "frozen"), None);
    }

    #[test]
    fn a_limit_that_is_taken_away_is_the_kernels_default() {
        let some = Limits {
            cpu_quota_us: Some(50_000),
            memory_bytes: Some(4 << 20),
            pids: Some(7),
            ..Limits::default()
        };
        let shown = |limits: &Limits| {
            files(limits).map(|limit| {
                format!("{} {}", limit.name, limit.value.as_deref().unwrap_or(limit.default))
            })
        };
        assert_eq!(
            shown(&some),
            [
                "cpu.max 50000 100000",
                "cpu.weight 100",
                "memory.max 4194304",
                "memory.low 0",
                "pids.max 7"
            ]
        );
        assert_eq!(
            shown(&Limits::default()),
            ["cpu.max max", "cpu.weight 100", "memory.max max", "memory.low 0", "pids.max max"]
        );
    }
}
