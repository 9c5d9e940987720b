//! Examines this machine: whether it can run guests, and what is missing.

mod network;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use vmm::config::KVM_DEVICE;
use vmm::error::chain;

use crate::error::Error;
use crate::guest_files::{GuestFile, find_agent, find_kernel, find_registry, find_resolver};
use crate::kvm;
use crate::limits::MemorySize;
use crate::places::Places;
use crate::settings::Settings;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The verdict on KVM: `ok`, `missing`, `denied` or `unfit`.
    pub kvm: KvmVerdict,
    /// Whether all is fine.
    pub ok: bool,
    /// One for each thing looked at.
    pub findings: Vec<Finding>,
}

/// Whether guests can run under this machine's KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub enum KvmVerdict {
    /// They can.
    Ok,
    /// There is no `/dev/kvm`.
    Missing,
    /// This user may not use it.
    Denied,
    /// It runs no ordinary kernel.
    Unfit,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is fine.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do, where it is not fine or could be better.
    pub hint: Option<String>,
}

impl KvmVerdict {
    /// The verdict in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Unfit => "unfit",
        }
    }
}

impl From<KvmVerdict> for &'static str {
    fn from(verdict: KvmVerdict) -> Self {
        verdict.word()
    }
}

impl Report {
    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report of strings is JSON")
    }
}

/// Examines this machine. Takes a few milliseconds.
#[must_use]
pub fn examine(places: &Places) -> Report {
    let (verdict, device) = device();
    let mut findings = vec![device, module(), cpu()];
    let mut kvm = verdict;
    if verdict == KvmVerdict::Ok {
        findings.push(capabilities());
        let tested = selftest();
        if !tested.ok {
            kvm = KvmVerdict::Unfit;
        }
        findings.push(tested);
    }
    let settings = Settings::load();
    findings.push(memory(settings.as_ref().map_or(MemorySize::DEFAULT, |all| all.memory.value)));
    findings.push(control_groups(&fs::read_to_string("/proc/mounts").unwrap_or_default()));
    findings.push(guest_file("guest kernel", find_kernel(), b"\x7fELF"));
    findings.push(guest_file("agent", find_agent(), b"0707"));
    findings.push(guest_file("registry", find_registry(), b"\x7fELF"));
    findings.push(guest_file("resolver", find_resolver(), b"\x7fELF"));
    findings.push(formatter());
    findings.extend(network::findings(places));
    findings.push(configuration(&settings));
    findings.push(folder("images", &places.data));
    findings.push(folder("containers", &places.containers()));
    // Without its module KVM may be built in, and CPU flags are only a clue: the device and the
    // self-test decide.
    let ok = findings.iter().all(|finding| finding.ok);
    Report { kvm, ok, findings }
}

fn fine(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding { name, ok: true, detail: detail.into(), hint: None }
}

fn wrong(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { name, ok: false, detail: detail.into(), hint: Some(hint.into()) }
}

fn device() -> (KvmVerdict, Finding) {
    let name = "device";
    if !Path::new(KVM_DEVICE).exists() {
        let hint = "switch virtualisation on in the firmware and load kvm_intel or kvm_amd";
        return (KvmVerdict::Missing, wrong(name, "there is no /dev/kvm", hint));
    }
    match kvm::open() {
        Ok(_) => (KvmVerdict::Ok, fine(name, "/dev/kvm can be opened")),
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "look into the kernel's log".to_owned());
            (KvmVerdict::Denied, wrong(name, chain(&error), hint))
        }
    }
}

fn module() -> Finding {
    match kvm::module() {
        Some("kvm_pvm") => wrong(
            "module",
            "kvm_pvm is a paravirtual KVM",
            "use a machine, or a virtual machine with nesting, that has kvm_intel or kvm_amd",
        ),
        Some(name) => fine("module", name),
        None if Path::new("/sys/module/kvm").exists() => fine("module", "kvm"),
        None => wrong("module", "no KVM module is loaded", "modprobe kvm_intel, or kvm_amd"),
    }
}

fn cpu() -> Finding {
    match kvm::cpu_flag() {
        Some(flag) => fine("cpu", flag),
        None => wrong(
            "cpu",
            "the CPU shows neither vmx nor svm",
            "switch virtualisation on in the firmware, or nesting in the host of this machine",
        ),
    }
}

fn capabilities() -> Finding {
    let name = "capabilities";
    let hint = "update the host's kernel: Linux 4.13 and later have all of them";
    let found = match vmm::selftest::capabilities() {
        Ok(found) => found,
        Err(error) => return wrong(name, chain(&error), hint),
    };
    let missing: Vec<_> =
        found.iter().filter(|one| !one.present).map(|one| one.capability.name).collect();
    if !missing.is_empty() {
        return wrong(name, format!("KVM has no {}", missing.join(", ")), hint);
    }
    let all = format!("all {} that a machine needs", found.len());
    match vmm::selftest::memory_is_mapped_ahead() {
        Ok(true) => fine(name, all + ", and memory is mapped ahead"),
        _ => {
            let hint =
                "to start faster: Linux 6.11 and later map a guest's memory ahead".to_owned();
            Finding { hint: Some(hint), ..fine(name, all) }
        }
    }
}

fn selftest() -> Finding {
    match vmm::selftest::run() {
        Ok(()) => fine("self-test", "a guest runs: long mode, system calls, interrupts, memory"),
        Err(error) => wrong(
            "self-test",
            chain(&error),
            "this KVM runs no ordinary kernel; use one on hardware with VMX or SVM, or nesting",
        ),
    }
}

fn memory(wanted: MemorySize) -> Finding {
    let name = "memory";
    let wanted = u64::from(wanted.mib());
    match available_mib() {
        Some(free) if free >= wanted => fine(name, format!("{free} MiB are free")),
        Some(free) => wrong(
            name,
            format!("{free} MiB are free, a guest has {wanted} MiB by default"),
            "free some memory, or run guests with a smaller -m",
        ),
        None => wrong(name, "/proc/meminfo cannot be read", "mount /proc"),
    }
}

fn available_mib() -> Option<u64> {
    Some(meminfo("MemAvailable")? >> 20)
}

/// All memory of this machine, in bytes.
#[must_use]
pub fn total_memory() -> Option<u64> {
    meminfo("MemTotal")
}

fn meminfo(key: &str) -> Option<u64> {
    value_in(&fs::read_to_string("/proc/meminfo").ok()?, key)
}

/// The value behind a key, in bytes.
fn value_in(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// KVM gives each machine a thread of its own and moves it into the caller's control group. Unless the
/// groups favour that, it waits for all processors to have passed through the scheduler
/// (Documentation/admin-guide/cgroup-v2.rst, `favordynmods`).
fn control_groups(mounts: &str) -> Finding {
    let name = "control groups";
    let mut mounts = mounts.lines().map(|line| line.split(' ').skip(1).collect::<Vec<_>>());
    let Some(mount) = mounts.find(|mount| mount.get(1) == Some(&"cgroup2")) else {
        return fine(name, "no cgroup2 is mounted");
    };
    if mount.get(2).is_some_and(|options| options.split(',').any(|one| one == "favordynmods")) {
        return fine(name, "favordynmods: a machine is made without waiting");
    }
    let hint = format!("to start faster: mount -o remount,favordynmods {}", mount[0]);
    Finding { hint: Some(hint), ..fine(name, "each new machine waits for the host's kernel") }
}

fn guest_file(name: &'static str, found: Result<GuestFile, Error>, magic: &[u8]) -> Finding {
    let file = match found {
        Ok(file) => file,
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            return wrong(name, chain(&error), hint);
        }
    };
    let place = format!("{} ({})", file.path.display(), file.origin);
    let mut head = vec![0; magic.len()];
    match File::open(&file.path).and_then(|mut file| file.read_exact(&mut head)) {
        Ok(()) if head == magic => fine(name, place),
        Ok(()) => wrong(name, format!("{place} is something else"), "build it again"),
        Err(error) => wrong(name, format!("{place} cannot be read: {error}"), "build it again"),
    }
}

fn configuration(settings: &Result<Settings, Error>) -> Finding {
    let name = "configuration";
    match settings {
        Ok(_) => {
            let there: Vec<_> =
                Settings::files().into_iter().filter(|file| file.exists()).collect();
            let names: Vec<_> = there.iter().map(|file| file.display().to_string()).collect();
            fine(name, if names.is_empty() { "built in".to_owned() } else { names.join(", ") })
        }
        Err(error) => wrong(name, chain(error), error.hint().unwrap_or_default()),
    }
}

fn formatter() -> Finding {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|folder| Path::new(folder).join("mke2fs"))
        .find(|path| path.is_file());
    match found {
        Some(path) => fine("mke2fs", path.display().to_string()),
        None => wrong("mke2fs", "mke2fs is not installed", "install e2fsprogs"),
    }
}

fn folder(name: &'static str, path: &Path) -> Finding {
    // The nearest folder that exists is the one that must let us in.
    let nearest = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(nearest, access) {
        Ok(()) => fine(name, path.display().to_string()),
        Err(error) => wrong(
            name,
            format!("{} cannot be written: {error}", nearest.display()),
            "run as root, or choose a folder of your own with --root",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says() {
        let text = "MemTotal: 100 kB\nMemFree: 5 kB\nMemAvailable:   2097152 kB\n";
        assert_eq!(value_in(text, "MemAvailable"), Some(2 << 30));
        assert_eq!(value_in(text, "MemTotal"), Some(100 << 10));
        assert_eq!(value_in("MemFree: 5 kB\n", "MemAvailable"), None);
    }

    #[test]
    fn control_groups_that_make_machines_wait_have_a_hint() {
        let slow = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let found = control_groups(slow);
        assert!(found.ok);
        let hint = found.hint.unwrap();
        assert!(hint.ends_with("mount -o remount,favordynmods /sys/fs/cgroup"), "{hint}");
        let fast = slow.replace("nsdelegate", "nsdelegate,favordynmods");
        assert_eq!(control_groups(&fast).hint, None);
        assert_eq!(control_groups("cgroup2\n").hint, None);
    }

    #[test]
    fn a_report_is_json_with_the_verdict_in_front() {
        let findings = vec![wrong("cpu", "no \"svm\"", "do something")];
        let report = Report { kvm: KvmVerdict::Unfit, ok: false, findings };
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["kvm"], "unfit");
        assert_eq!(json["findings"][0]["detail"], "no \"svm\"");
    }
}
