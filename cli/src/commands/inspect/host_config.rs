//! What `inspect` shows as `HostConfig`: what a container may do, and what it has of its host.

use runtime::Record;
use runtime::keeping::{LogConfig, LogDriver, RestartPolicy};
use runtime::options::{Publication, ulimit_name};
use serde_json::{Map, Value, json};

/// What Docker's API calls `HostConfig`, as far as there is something to tell.
pub(super) fn host_config(record: &Record) -> Value {
    let parts = [keeping(record), reach(record), files(record), resources(record), disks(record)];
    let parts = parts.into_iter().chain([ports(record), names(record)]);
    let parts = parts.filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    parts.flatten().collect::<Map<_, _>>().into()
}

fn keeping(record: &Record) -> Value {
    let keeping = &record.keeping;
    let most = match keeping.restart {
        RestartPolicy::OnFailure(most) => most.unwrap_or(0),
        _ => 0,
    };
    json!({
        "AutoRemove": keeping.auto_remove,
        "LogConfig": log_config(keeping.log),
        "NetworkMode": record.network_mode,
        "RestartPolicy": { "Name": keeping.restart.to_string(), "MaximumRetryCount": most },
        "Runtime": "hyperrun",
    })
}

fn log_config(log: LogConfig) -> Value {
    match log.driver {
        LogDriver::JsonFile => json!({
            "Type": "json-file",
            "Config": {
                "max-size": log.max_bytes.to_string(),
                "max-file": log.max_files.to_string(),
            },
        }),
        LogDriver::None => json!({ "Type": "none", "Config": {} }),
    }
}

/// What its processes may do. Every namespace is the machine's own.
fn reach(record: &Record) -> Value {
    let (container, wishes) = (&record.container, &record.wishes);
    json!({
        "Privileged": container.privileged,
        "CapAdd": some(&wishes.cap_add),
        "CapDrop": some(&wishes.cap_drop),
        "SecurityOpt": some(&wishes.security),
        "GroupAdd": some(&container.process.more_groups),
        "Init": container.init,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
    })
}

/// Docker's words for what was asked for about its ports: each that is published, with the host's.
fn ports(record: &Record) -> Value {
    let mut bindings = Map::new();
    for Publication { port, address, host } in &record.ports.published {
        let binding = json!({
            "HostIp": address.map_or_else(String::new, |address| address.to_string()),
            "HostPort": host.map_or_else(String::new, |host| host.to_string()),
        });
        let all = bindings.entry(port.to_string()).or_insert_with(|| json!([]));
        all.as_array_mut().expect("it was made as one").push(binding);
    }
    json!({ "PortBindings": bindings, "PublishAllPorts": record.ports.all })
}

fn names(record: &Record) -> Value {
    json!({
        "Dns": record.dns.servers,
        "DnsOptions": record.dns.options,
        "DnsSearch": record.dns.search,
    })
}

/// What it finds in its root that is not the image's.
fn files(record: &Record) -> Value {
    let (container, wishes) = (&record.container, &record.wishes);
    // A part of a setting's name may hold a dot: as sysctl(8) has it, that becomes a slash.
    let swapped = |letter| match letter {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    let name = |path: &str| path.chars().map(swapped).collect::<String>();
    let sysctls = container.sysctls.iter();
    let sysctls = sysctls.map(|one| (name(&one.path), Value::from(one.value.clone())));
    json!({
        "ReadonlyRootfs": container.read_only,
        "ExtraHosts": some(&wishes.hosts),
        "Tmpfs": wishes.tmpfs,
        "ShmSize": container.shm_bytes,
        "Sysctls": sysctls.collect::<Map<_, _>>(),
    })
}

/// Docker's `null` where nothing was asked for.
fn some(words: &[String]) -> Option<&[String]> {
    Some(words).filter(|words| !words.is_empty())
}

fn resources(record: &Record) -> Value {
    let (limits, process) = (&record.container.limits, &record.container.process);
    let machine_bytes = u64::from(record.vm.memory_mib) << 20;
    let memory_bytes = limits.memory_bytes.unwrap_or(machine_bytes);
    json!({
        "Memory": memory_bytes,
        "MachineMemory": machine_bytes,
        "MemoryReservation": limits.memory_reserved_bytes.unwrap_or(0),
        // Both together: there is no swap.
        "MemorySwap": memory_bytes,
        "OomScoreAdj": process.oom_score_adjustment.unwrap_or(0),
        "OomKillDisable": false,
        "PidsLimit": limits.pids,
        "NanoCpus": nano_cpus(record),
        "CpuShares": record.wishes.cpu_shares,
        "CpusetCpus": record.host.cpu_set.as_ref().map_or_else(String::new, ToString::to_string),
        "NetworkRate": record.host.network_rate.map_or(0, |rate| rate.bytes),
        "Ulimits": ulimits(record),
    })
}

/// As Docker has them: -1 is no limit.
fn ulimits(record: &Record) -> Option<Vec<Value>> {
    let value = |limit: u64| i64::try_from(limit).unwrap_or(-1);
    let all = record.wishes.ulimits.iter().map(|limit| {
        json!({
            "Name": ulimit_name(limit.resource),
            "Hard": value(limit.hard),
            "Soft": value(limit.soft),
        })
    });
    Some(all.collect::<Vec<_>>()).filter(|all| !all.is_empty())
}

fn disks(record: &Record) -> Value {
    let rates = &record.host.devices;
    json!({
        "BlkioDeviceReadBps": rates.read_bps,
        "BlkioDeviceWriteBps": rates.write_bps,
        "BlkioDeviceReadIOps": rates.read_iops,
        "BlkioDeviceWriteIOps": rates.write_iops,
        "BlkioWeight": 0,
        "StorageOpt": { "size": record.scratch.to_string() },
    })
}

/// The CPUs it may keep busy, in billionths: the machine's, or its share of them.
fn nano_cpus(record: &Record) -> u64 {
    match record.container.limits.cpu_quota_us {
        // Microseconds in each tenth of a second.
        Some(quota) => quota * 10_000,
        None => u64::from(record.vm.vcpus) * 1_000_000_000,
    }
}
