//! Changes what a container may use: at once where it runs, and for its next start.

use protocol::Limits;
use thiserror::Error;

use crate::containers::{Containers, Found, Record};
use crate::error::Error;
use crate::events::of_container;
use crate::keeping::RestartPolicy;
use crate::limits::{Cpus, MemorySize, Size};
use crate::options::{CpuSet, MemorySwap};
use crate::plan::{LimitsError, VmConfig, check_cpus, weight};
use crate::{host, questions};

/// What is to be changed; none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// `-m`.
    pub memory: Option<MemorySize>,
    /// `--memory-reservation`; 0 takes it away.
    pub memory_reservation: Option<Size>,
    /// `--memory-swap`, which only has to fit `-m`.
    pub memory_swap: Option<MemorySwap>,
    /// `--cpus`.
    pub cpus: Option<Cpus>,
    /// `--cpu-shares`; 0 takes it away.
    pub cpu_shares: Option<u64>,
    /// `--cpuset-cpus`.
    pub cpu_set: Option<CpuSet>,
    /// `--pids-limit`; 0 and less take it away.
    pub pids_limit: Option<i64>,
    /// `--restart`.
    pub restart: Option<RestartPolicy>,
}

/// A change that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpdateError {
    /// More memory than the machine has that runs.
    #[error("its machine has {has}, and more cannot be given to it while it runs")]
    Memory {
        /// What it has.
        has: MemorySize,
    },
    /// More CPUs than the machine has that runs.
    #[error("its machine has {has} CPUs, and more cannot be given to it while it runs")]
    Cpus {
        /// What it has.
        has: u8,
    },
    /// Other CPUs for a machine that runs.
    #[error("its machine cannot move to other CPUs while it runs")]
    CpuSet,
    /// A restart policy for what is removed at its end; Docker's words.
    #[error("restart policy cannot be updated because AutoRemove is enabled for the container")]
    AutoRemove,
    /// Limits contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

/// Whether a container has a machine that is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    Runs,
    None,
}

/// Changes a container. What runs is changed first: what the guest refuses is not written down.
///
/// # Errors
/// When a change cannot be made, or cannot be written down.
pub fn update(containers: &Containers, found: &Found, changes: &Changes) -> Result<(), Error> {
    let machine = match found.state.status.is_supervised() {
        true => Machine::Runs,
        false => Machine::None,
    };
    let failed = |source| Error::Update { name: found.record.name.clone(), source };
    if let Some(set) = &changes.cpu_set {
        check_cpus(set, &host::cpus()).map_err(|error| failed(error.into()))?;
    }
    let changed = changed(&found.record, changes, machine).map_err(failed)?;
    let limits = changed.container.limits.clone();
    if machine == Machine::Runs && limits != found.record.container.limits {
        questions::limit(found, limits)?;
    }
    containers.register()?.change(&found.record.id, |record| Record {
        // Its name may be another by now.
        name: record.name,
        ..changed
    })?;
    containers.events().add(&[of_container(&found.record, "update", &[])]);
    Ok(())
}

/// The record with these changes.
fn changed(record: &Record, changes: &Changes, machine: Machine) -> Result<Record, UpdateError> {
    let mut record = record.clone();
    if let Some(policy) = changes.restart {
        if record.keeping.auto_remove && policy != RestartPolicy::No {
            return Err(UpdateError::AutoRemove);
        }
        record.keeping.restart = policy;
    }
    if let Some(set) = &changes.cpu_set {
        if machine == Machine::Runs {
            return Err(UpdateError::CpuSet);
        }
        record.host.cpu_set = Some(set.clone());
    }
    if let Some(shares) = changes.cpu_shares {
        record.wishes.cpu_shares = shares;
    }
    let (vm, limits) = (&mut record.vm, &mut record.container.limits);
    change_cpus(vm, limits, changes, machine)?;
    change_memory(vm, limits, changes, machine)?;
    if let Some(limit) = changes.pids_limit {
        limits.pids = u64::try_from(limit).ok().filter(|limit| *limit > 0);
    }
    Ok(record)
}

fn change_cpus(
    vm: &mut VmConfig,
    limits: &mut Limits,
    changes: &Changes,
    machine: Machine,
) -> Result<(), UpdateError> {
    if let Some(cpus) = changes.cpus {
        match machine {
            Machine::Runs if cpus.vcpus() > vm.vcpus => {
                return Err(UpdateError::Cpus { has: vm.vcpus });
            }
            Machine::Runs => limits.cpu_quota_us = cpus.quota_of(vm.vcpus),
            Machine::None => {
                vm.vcpus = cpus.vcpus();
                limits.cpu_quota_us = cpus.quota_us();
            }
        }
    }
    if let Some(shares) = changes.cpu_shares {
        limits.cpu_weight = weight(shares);
    }
    Ok(())
}

fn change_memory(
    vm: &mut VmConfig,
    limits: &mut Limits,
    changes: &Changes,
    machine: Machine,
) -> Result<(), UpdateError> {
    if let Some(memory) = changes.memory {
        match machine {
            Machine::Runs if memory.mib() > vm.memory_mib => {
                let has = MemorySize::of_machine(vm.memory_mib);
                return Err(UpdateError::Memory { has });
            }
            Machine::Runs => {
                let machine_bytes = u64::from(vm.memory_mib) << 20;
                limits.memory_bytes = Some(memory.bytes()).filter(|bytes| *bytes < machine_bytes);
            }
            Machine::None => {
                vm.memory_mib = memory.mib();
                limits.memory_bytes = memory.limit_bytes();
            }
        }
    }
    if let Some(reserved) = changes.memory_reservation {
        limits.memory_reserved_bytes = Some(reserved.bytes).filter(|bytes| *bytes > 0);
    }
    let memory = limits.memory_bytes.unwrap_or(u64::from(vm.memory_mib) << 20);
    if limits.memory_reserved_bytes.is_some_and(|reserved| reserved > memory) {
        return Err(LimitsError::Reservation.into());
    }
    match changes.memory_swap {
        Some(MemorySwap::Bytes(swap)) if (1..memory).contains(&swap.bytes) => {
            Err(LimitsError::Swap.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::sample;

    fn changes(memory: &str, cpus: &str) -> Changes {
        let memory = Some(memory).filter(|text| !text.is_empty());
        let cpus = Some(cpus).filter(|text| !text.is_empty());
        Changes {
            memory: memory.map(|text| text.parse().unwrap()),
            cpus: cpus.map(|text| text.parse().unwrap()),
            ..Changes::default()
        }
    }

    /// The machine's MiB and vCPUs, and the limits in it, of one with 512 MiB and two.
    fn shape(changes: &Changes, machine: Machine) -> Result<String, UpdateError> {
        let mut record = sample("a", "web");
        record.vm.vcpus = 2;
        let record = changed(&record, changes, machine)?;
        let limits = record.container.limits;
        let VmConfig { memory_mib, vcpus } = record.vm;
        Ok(format!("{memory_mib} {vcpus} {:?} {:?}", limits.memory_bytes, limits.cpu_quota_us))
    }

    #[test]
    fn a_machine_that_runs_stays_and_the_limits_in_it_move() {
        for (memory, cpus, wanted) in [
            ("", "", "512 2 None None"),
            ("100m", "", "512 2 Some(104857600) None"),
            ("512m", "", "512 2 None None"),
            ("", "2", "512 2 None None"),
            ("", "1", "512 2 None Some(100000)"),
            ("", "1.5", "512 2 None Some(150000)"),
        ] {
            assert_eq!(shape(&changes(memory, cpus), Machine::Runs).unwrap(), wanted);
        }
        let error = shape(&changes("513m", ""), Machine::Runs).unwrap_err().to_string();
        assert!(error.starts_with("its machine has 512m, and more cannot"), "{error}");
        let error = shape(&changes("", "2.01"), Machine::Runs).unwrap_err();
        assert_eq!(error, UpdateError::Cpus { has: 2 });
    }

    #[test]
    fn what_does_not_run_gets_another_machine() {
        for (memory, cpus, wanted) in [
            ("1g", "", "1024 2 None None"),
            ("4m", "", "64 2 Some(4194304) None"),
            ("", "3.5", "512 4 None Some(350000)"),
            ("", "1", "512 1 None None"),
        ] {
            assert_eq!(shape(&changes(memory, cpus), Machine::None).unwrap(), wanted);
        }
    }

    #[test]
    fn other_limits_are_taken_and_taken_away() {
        let wanted = Changes {
            pids_limit: Some(7),
            cpu_shares: Some(512),
            memory_reservation: Some("64m".parse().unwrap()),
            restart: Some(RestartPolicy::Always),
            ..Changes::default()
        };
        let record = changed(&sample("a", "web"), &wanted, Machine::Runs).unwrap();
        let limits = &record.container.limits;
        assert_eq!((limits.pids, limits.cpu_weight), (Some(7), Some(20)));
        assert_eq!(limits.memory_reserved_bytes, Some(64 << 20));
        assert_eq!(record.keeping.restart, RestartPolicy::Always);
        let gone = Changes {
            pids_limit: Some(-1),
            cpu_shares: Some(0),
            memory_reservation: Some(Size { bytes: 0 }),
            ..Changes::default()
        };
        let record = changed(&record, &gone, Machine::Runs).unwrap();
        assert_eq!(record.container.limits, Limits::default());
    }

    #[test]
    fn contradictions_are_refused() {
        let mut record = sample("a", "web");
        record.keeping.auto_remove = true;
        let policy = |policy| Changes { restart: Some(policy), ..Changes::default() };
        let refused = changed(&record, &policy(RestartPolicy::Always), Machine::None);
        assert_eq!(refused.unwrap_err(), UpdateError::AutoRemove);
        assert!(changed(&record, &policy(RestartPolicy::No), Machine::None).is_ok());
        let reserved = Some("600m".parse().unwrap());
        let reserved = Changes { memory_reservation: reserved, ..Changes::default() };
        let refused = changed(&record, &reserved, Machine::None).unwrap_err();
        assert_eq!(refused, LimitsError::Reservation.into());
        let swap = Some("1m".parse().unwrap());
        let swap = Changes { memory_swap: swap, ..Changes::default() };
        let refused = changed(&record, &swap, Machine::Runs).unwrap_err();
        assert_eq!(refused, LimitsError::Swap.into());
        let cpus = Changes { cpu_set: Some("0".parse().unwrap()), ..Changes::default() };
        assert_eq!(changed(&record, &cpus, Machine::Runs).unwrap_err(), UpdateError::CpuSet);
        assert!(changed(&record, &cpus, Machine::None).unwrap().host.cpu_set.is_some());
    }
}
