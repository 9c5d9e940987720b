//! A machine's own cgroup on the host, for the limits of CPU time: what the container may use counts
//! for the whole machine, and its weight is one beside other machines. There is one only where the
//! host lets this user make it: for root below the host's root, for others below what was delegated to
//! them. Where it cannot be made the limits in the guest have to do.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::Limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const MOUNT: &str = "/sys/fs/cgroup";
/// The cgroup with a cgroup for each machine.
const OURS: &str = "hyperrun";
/// The period that a quota is counted in, in microseconds.
const PERIOD_US: u64 = 100_000;
/// What the kernel gives to a cgroup that was not told.
const USUAL_WEIGHT: u32 = 100;

/// A machine's cgroup. Dropping it removes it: the machine must be gone by then.
#[derive(Debug)]
pub(crate) struct HostCgroup {
    folder: PathBuf,
}

impl HostCgroup {
    /// Puts a process into the cgroup of the container `id`, if there is something to limit and the
    /// host lets us.
    pub(crate) fn hold(id: &str, limits: &Limits, pid: i32) -> Option<Self> {
        if limits.cpu_quota_us.is_none() && limits.cpu_weight.is_none() {
            return None;
        }
        let folder = prepare(&delegated()?)?.join(id);
        make(&folder)?;
        let cgroup = Self { folder };
        let held = cgroup.limit(limits) && cgroup.write("cgroup.procs", &pid.to_string());
        held.then_some(cgroup)
    }

    /// Changes the limits; whether the kernel has taken them.
    pub(crate) fn limit(&self, limits: &Limits) -> bool {
        let quota = limits.cpu_quota_us.map_or("max".to_owned(), |quota| quota.to_string());
        let weight = limits.cpu_weight.unwrap_or(USUAL_WEIGHT);
        self.write("cpu.max", &format!("{quota} {PERIOD_US}"))
            && self.write("cpu.weight", &weight.to_string())
    }

    fn write(&self, file: &str, text: &str) -> bool {
        fs::write(self.folder.join(file), text).is_ok()
    }
}

impl Drop for HostCgroup {
    fn drop(&mut self) {
        remove_when_empty(&self.folder);
    }
}

/// Removes what a killed supervisor has left of the cgroup of the container `id`.
pub(crate) fn remove(id: &str) {
    if let Some(folder) = delegated() {
        remove_when_empty(&folder.join(OURS).join(id));
    }
}

/// Removes a cgroup, if it is there, once the last process of it is gone; one that does not go is left.
fn remove_when_empty(folder: &Path) {
    let Ok(mut events) = File::open(folder.join("cgroup.events")) else { return };
    let patience = Timespec { tv_sec: 2, tv_nsec: 0 };
    loop {
        let mut text = String::new();
        if events.rewind().and_then(|()| events.read_to_string(&mut text)).is_err()
            || text.contains("populated 0")
        {
            break;
        }
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&patience)) {
            Ok(1..) | Err(Errno::INTR) => {}
            Ok(0) | Err(_) => break,
        }
    }
    // What fails is tried again when its container is removed.
    let _ = fs::remove_dir(folder);
}

fn make(folder: &Path) -> Option<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => None,
        _ => Some(()),
    }
}

/// The cgroup with ours in it, made if need be, whose own can count CPU time.
fn prepare(folder: &Path) -> Option<PathBuf> {
    let ours = folder.join(OURS);
    if !ours.is_dir() {
        // Refused where it is switched on already by others, or there are processes in it.
        let _ = fs::write(folder.join("cgroup.subtree_control"), "+cpu");
        make(&ours)?;
    }
    fs::write(ours.join("cgroup.subtree_control"), "+cpu").ok()?;
    Some(ours)
}

/// The highest cgroup above this process that is this user's own; for root that of the host.
fn delegated() -> Option<PathBuf> {
    let mount = Path::new(MOUNT);
    if !mount.join("cgroup.controllers").is_file() {
        return None;
    }
    let user = rustix::process::geteuid().as_raw();
    if user == 0 {
        return Some(mount.to_owned());
    }
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own_cgroup(&text)?;
    let is_ours = |folder: &&Path| fs::metadata(folder).is_ok_and(|found| found.uid() == user);
    let own = mount.join(own);
    own.ancestors().take_while(is_ours).last().map(Path::to_owned)
}

/// The path below the mount of cgroup v2: the line `0::/PATH`.
fn own_cgroup(text: &str) -> Option<&Path> {
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_cgroup() {
        let text = "1:name=systemd:/x\n0::/user.slice/user-1.slice/session-1.scope\n";
        let wanted = Path::new("user.slice/user-1.slice/session-1.scope");
        assert_eq!(own_cgroup(text), Some(wanted));
        assert_eq!(own_cgroup("0::/\n"), Some(Path::new("")));
        assert_eq!(own_cgroup("1:name=systemd:/x\n"), None);
    }

    #[test]
    fn nothing_to_limit_needs_no_cgroup() {
        assert!(HostCgroup::hold("x", &Limits::default(), 0).is_none());
    }
}
