//! What the agent knows about the container as a whole: its processes and what they use.

use std::{fs, os::fd::BorrowedFd};

use protocol::{Answer, Stats};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    cgroup::{Cgroup, value},
    step::{Doing, StepError},
    top, user,
};

/// The container's processes, with names from the passwd file under `root`.
pub(crate) fn top(root: BorrowedFd<'_>) -> Result<Answer, StepError> {
    let passwd = user::passwd(root)?;
    let mut rows = top::rows()?;
    for row in &mut rows {
        row.user = user::name_of(row.uid, &passwd);
    }
    Ok(Answer::Top(rows))
}

/// What the container uses.
pub(crate) fn stats(cgroup: &Cgroup) -> Result<Answer, StepError> {
    let meminfo = fs::read_to_string("/proc/meminfo").doing("read /proc/meminfo")?;
    let now = clock_gettime(ClockId::Monotonic);
    let clock_us = u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or_default() / 1000;
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let file = |name: &str| cgroup.read(name).unwrap_or_default();
    let counted = Files {
        cpu: file("cpu.stat"),
        memory: file("memory.current"),
        memory_stat: file("memory.stat"),
        memory_peak: file("memory.peak"),
        memory_max: file("memory.max"),
        memory_events: file("memory.events"),
        pids: file("pids.current"),
        pids_max: file("pids.max"),
        io: file("io.stat"),
        net: fs::read_to_string("/proc/net/dev").doing("read /proc/net/dev")?,
        meminfo,
    };
    Ok(Answer::Stats(Stats {
        clock_us,
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        ..counted.stats()
    }))
}

/// The files that tell, each empty where the kernel has none.
#[derive(Default)]
struct Files {
    cpu: String,
    memory: String,
    memory_stat: String,
    memory_peak: String,
    memory_max: String,
    memory_events: String,
    pids: String,
    pids_max: String,
    io: String,
    net: String,
    meminfo: String,
}

impl Files {
    fn stats(&self) -> Stats {
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let cpu = |key| value(&self.cpu, key).unwrap_or_default();
        let (net_received_bytes, net_sent_bytes) = net_total(&self.net);
        let machine_bytes = meminfo_total(&self.meminfo).unwrap_or_default();
        Stats {
            cpu_us: cpu("usage_usec"),
            cpu_user_us: cpu("user_usec"),
            cpu_system_us: cpu("system_usec"),
            cpu_throttled_us: cpu("throttled_usec"),
            memory_bytes: number(&self.memory).unwrap_or_default(),
            memory_inactive_file_bytes: value(&self.memory_stat, "inactive_file")
                .unwrap_or_default(),
            memory_peak_bytes: number(&self.memory_peak).unwrap_or_default(),
            memory_limit_bytes: number(&self.memory_max)
                .map_or(machine_bytes, |limit| limit.min(machine_bytes)),
            pids: number(&self.pids).unwrap_or_default(),
            pids_limit: number(&self.pids_max),
            block_read_bytes: io_total(&self.io, "rbytes"),
            block_written_bytes: io_total(&self.io, "wbytes"),
            out_of_memory_kills: value(&self.memory_events, "oom_kill").unwrap_or_default(),
            net_received_bytes,
            net_sent_bytes,
            ..Stats::default()
        }
    }
}

/// `MemTotal`, in bytes.
fn meminfo_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The sum over all devices of a key in `io.stat`: `254:16 rbytes=1 wbytes=2 …`.
fn io_total(io: &str, key: &str) -> u64 {
    io.split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// What all interfaces but the loopback have received and sent: `eth0: BYTES` and seven more numbers, then
/// `BYTES` and seven more (proc(5)).
fn net_total(net: &str) -> (u64, u64) {
    let counted = |line: &str| {
        let (_, numbers) = line.split_once(':').filter(|(name, _)| name.trim() != "lo")?;
        let mut numbers = numbers.split_ascii_whitespace();
        Some((numbers.next()?.parse::<u64>().ok()?, numbers.nth(7)?.parse::<u64>().ok()?))
    };
    net.lines()
        .filter_map(counted)
        .fold((0, 0), |all, one| (all.0.saturating_add(one.0), all.1.saturating_add(one.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_are_read_from_the_kernels_files() {
        let files = Files {
            cpu: "usage_usec 300\nuser_usec 200\nsystem_usec 100\nthrottled_usec 7\n".into(),
            memory: "4096\n".into(),
            memory_stat: "anon 1\ninactive_file 1024\nfile 2048\n".into(),
            memory_peak: "8192\n".into(),
            memory_max: "max\n".into(),
            memory_events: "oom 1\noom_kill 2\n".into(),
            pids: "3\n".into(),
            pids_max: "100\n".into(),
            io: "254:0 rbytes=10 wbytes=0 rios=1\n254:16 rbytes=5 wbytes=7 rios=1\n".into(),
            net: "Inter-| Receive | Transmit\n face |bytes packets|bytes packets\n    \
                  lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
                  eth0: 1000 3 0 0 0 0 0 0 50 2 0 0 0 0 0 0\n  \
                  eth1: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n"
                .into(),
            meminfo: "MemFree: 1 kB\nMemTotal:         65536 kB\n".into(),
        };
        let wanted = Stats {
            cpu_us: 300,
            cpu_user_us: 200,
            cpu_system_us: 100,
            cpu_throttled_us: 7,
            memory_bytes: 4096,
            memory_inactive_file_bytes: 1024,
            memory_peak_bytes: 8192,
            memory_limit_bytes: 64 << 20,
            pids: 3,
            pids_limit: Some(100),
            block_read_bytes: 15,
            block_written_bytes: 7,
            out_of_memory_kills: 2,
            net_received_bytes: 1001,
            net_sent_bytes: 52,
            ..Stats::default()
        };
        assert_eq!(files.stats(), wanted);
        let limited = Files { memory_max: "4194304\n".into(), pids_max: "max".into(), ..files };
        assert_eq!(limited.stats().memory_limit_bytes, 4 << 20);
        assert_eq!(limited.stats().pids_limit, None);
        assert_eq!(Files::default().stats(), Stats::default());
    }
}
