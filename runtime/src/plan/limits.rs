//! Decides what a container may use: how large its machine is, and what its cgroup lets through.

use protocol::{Limits, ResourceLimit};
use thiserror::Error;

use super::VmConfig;
use crate::options::{CpuSet, MemorySwap, Options};
use crate::spec::RunSpec;

/// `RLIMIT_NOFILE` on x86-64, and Docker's limit for it, soft and hard.
const OPEN_FILES: ResourceLimit = ResourceLimit { resource: 7, soft: 1 << 20, hard: 1 << 20 };
/// The shares of CPU time that Docker and runc take.
const CPU_SHARES: (u64, u64) = (2, 262_144);
/// The weights that the kernel takes.
const CPU_WEIGHTS: u64 = 10_000;

/// Limits that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LimitsError {
    /// `--memory-reservation` over `-m`.
    #[error("minimum memory limit can not be less than memory reservation limit")]
    Reservation,
    /// `--memory-swap` under `-m`.
    #[error("minimum memory-swap limit should be larger than memory limit")]
    Swap,
    /// `--cpuset-cpus` with a CPU that is not there.
    #[error("requested CPUs are not available - requested {requested}, available: {available}")]
    CpuSet {
        /// As it was asked for.
        requested: String,
        /// Those that are there.
        available: String,
    },
    /// `--blkio-weight`.
    #[error("range of blkio weight is from 10 to 1000")]
    BlkioWeight,
}

/// The machine: no smaller than one that boots.
pub(super) fn machine(spec: &RunSpec) -> VmConfig {
    VmConfig { memory_mib: spec.memory.mib(), vcpus: spec.cpus.vcpus() }
}

/// Whether the CPUs are there that are asked for.
pub(crate) fn check_cpus(set: &CpuSet, there: &[usize]) -> Result<(), LimitsError> {
    if set.cpus().all(|cpu| there.contains(&cpu)) {
        return Ok(());
    }
    let available: Vec<_> = there.iter().map(ToString::to_string).collect();
    Err(LimitsError::CpuSet { requested: set.to_string(), available: available.join(",") })
}

/// The container in it.
pub(super) fn container(spec: &RunSpec) -> Result<Limits, LimitsError> {
    let options = &spec.options;
    let memory = spec.memory.bytes();
    if options.blkio_weight.is_some_and(|weight| weight > 0 && !(10..=1000).contains(&weight)) {
        return Err(LimitsError::BlkioWeight);
    }
    let reserved = options.memory_reservation.map(|size| size.bytes).filter(|bytes| *bytes > 0);
    if reserved.is_some_and(|reserved| reserved > memory) {
        return Err(LimitsError::Reservation);
    }
    // Docker's rule, though there is no swap in a machine; 0 is not given.
    if let Some(MemorySwap::Bytes(swap)) = options.memory_swap
        && (1..memory).contains(&swap.bytes)
    {
        return Err(LimitsError::Swap);
    }
    Ok(Limits {
        cpu_quota_us: spec.cpus.quota_us(),
        cpu_weight: options.cpu_shares.and_then(weight),
        memory_bytes: spec.memory.limit_bytes(),
        memory_reserved_bytes: reserved,
        pids: options.pids_limit.and_then(|limit| u64::try_from(limit).ok()).filter(|n| *n > 0),
    })
}

/// What a person should know of it.
pub(super) fn warnings(spec: &RunSpec, warnings: &mut Vec<String>) {
    let options = &spec.options;
    let swap = match options.memory_swap {
        None => false,
        Some(MemorySwap::Unlimited) => true,
        Some(MemorySwap::Bytes(swap)) => swap.bytes > spec.memory.bytes(),
    };
    if swap {
        warnings.push("there is no swap in a machine: --memory-swap is without effect".to_owned());
    }
    if options.blkio_weight.is_some_and(|weight| weight > 0) {
        warnings.push(
            "nobody else is at the disks of a machine: --blkio-weight is discarded".to_owned(),
        );
    }
    if options.oom_kill_disable {
        warnings.push(
            "cgroup v2 cannot disable the out-of-memory killer: --oom-kill-disable is discarded"
                .to_owned(),
        );
    }
}

/// Docker's limit of open files, and over it what was asked for; the last of a kind wins.
pub(super) fn resources(options: &Options) -> Vec<ResourceLimit> {
    let mut limits = vec![OPEN_FILES];
    for ulimit in &options.ulimits {
        match limits.iter_mut().find(|limit| limit.resource == ulimit.0.resource) {
            Some(limit) => *limit = ulimit.0,
            None => limits.push(ulimit.0),
        }
    }
    limits
}

/// Shares are cgroup v1's, weights v2's: 2 to 262,144 becomes 1 to 10,000, as runc has it.
pub(crate) fn weight(shares: u64) -> Option<u32> {
    let (least, most) = CPU_SHARES;
    if shares == 0 {
        return None;
    }
    let shares = shares.clamp(least, most);
    let weight = 1 + (shares - least) * (CPU_WEIGHTS - 1) / (most - least);
    Some(u32::try_from(weight).expect("10,000 at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_as_in_runc() {
        for (shares, wanted) in [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (1024, Some(39)),
            (512, Some(20)),
            (262_144, Some(10_000)),
            (u64::MAX, Some(10_000)),
        ] {
            assert_eq!(weight(shares), wanted, "{shares}");
        }
    }
}
