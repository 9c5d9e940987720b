//! Decides everything about a container before anything is done: what was asked for, what the
//! image says and what the host has, in; a machine and a container, out. Reads and writes nothing.

use std::path::Path;

use images::ImageConfig;
use protocol::{
    Capabilities, ContainerSpec, Device, EtcFiles, FilterInstruction, ProcessSpec, User, WallClock,
    WindowSize,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::capabilities;
use crate::env::Environment;
use crate::options::{ExtraHost, Options};
use crate::seccomp::{self, SeccompError};
use crate::spec::{Hostname, RunSpec, Stdio};

mod limits;

pub use limits::LimitsError;
pub(crate) use limits::{check_cpus, weight};

/// The `PATH` of a process whose image names none, as Docker has it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The size of `/dev/shm`, as Docker has it.
pub(crate) const SHM_BYTES: u64 = 64 << 20;
/// The image is the first disk, what the container writes goes to the second.
pub(crate) const IMAGE_DISK: Device = Device { index: 0 };
pub(crate) const SCRATCH_DISK: Device = Device { index: 1 };
/// The platform of every guest.
const GUEST_PLATFORM: (&str, &str) = ("linux", "amd64");

/// The part of the host that a plan depends on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The CPUs `hyperrun` may use, by their numbers.
    pub cpus: Vec<usize>,
    /// The environment of `hyperrun` itself, for `-e KEY`.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The host's `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Fresh random bytes: for the default host name, and for the guest's pool.
    pub random: [u8; 40],
}

/// The image a plan is for.
#[derive(Clone, Copy, Debug)]
pub struct PlannedImage<'a> {
    /// The name a person knows it by, as `debian:bookworm`.
    pub name: &'a str,
    /// What it says about itself.
    pub config: &'a ImageConfig,
}

/// A machine, and a container in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The machine.
    pub vm: VmConfig,
    /// The container; its clock is set when it is sent.
    pub container: ContainerSpec,
    /// What the container is called.
    pub name: String,
    /// What a person should know, each a line.
    pub warnings: Vec<String>,
}

/// The shape of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// Its vCPUs.
    pub vcpus: u8,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The image is for other machines.
    #[error("image {image} is for {os}/{architecture}, this machine runs linux/amd64")]
    Platform {
        /// The image's name.
        image: String,
        /// The system it is for.
        os: String,
        /// The architecture it is for.
        architecture: String,
    },
    /// Neither the image nor the command line says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A working directory that begins somewhere else than at the root.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    WorkingDirectory(String),
    /// More than one colon, or nothing before it.
    #[error("invalid user: '{0}'")]
    User(String),
    /// Limits contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The seccomp profile makes no sense.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A folder of the image that is to be a volume.
    #[error("the image's volume '{0}' is invalid, it needs to be an absolute path")]
    Volume(String),
    /// A text that is to become a C string holds a NUL.
    #[error("{0} holds a NUL byte")]
    Nul(&'static str),
}

/// Decides how `spec` runs `image` on `host`.
pub fn plan(spec: &RunSpec, image: PlannedImage<'_>, host: &Host) -> Result<Plan, PlanError> {
    check_platform(image)?;
    let vm = limits::machine(spec);
    if let Some(set) = &spec.options.host.cpu_set {
        check_cpus(set, &host.cpus).map_err(PlanError::Limits)?;
    }
    let name = container_name(spec, image.name, host);
    let hostname = hostname(spec, &name);
    let process = process(spec, image.config, host, &hostname)?;
    let options = &spec.options;
    let container = ContainerSpec {
        image_disk: IMAGE_DISK,
        scratch_disk: SCRATCH_DISK,
        read_only: spec.read_only,
        etc: etc_files(spec, host),
        hostname: hostname.as_str().to_owned(),
        shm_bytes: shm_bytes(options),
        wall_clock: WallClock { seconds: 0, nanoseconds: 0 },
        entropy: entropy(host),
        limits: limits::container(spec)?,
        networks: Vec::new(),
        domain_name: options.domain_name.as_ref().map_or_else(String::new, |name| name.to_string()),
        tmpfs: options.tmpfs.iter().map(|one| one.tmpfs.clone()).collect(),
        volumes: volumes(options, image.config)?,
        sysctls: options.sysctls.iter().map(|one| one.0.clone()).collect(),
        privileged: options.privileged,
        init: options.init,
        process,
    };
    Ok(Plan { vm, container, name, warnings: warnings(spec, host) })
}

/// What an image leaves open is taken to be right.
fn check_platform(image: PlannedImage<'_>) -> Result<(), PlanError> {
    let (os, architecture) = (&image.config.os, &image.config.architecture);
    let fits = |said: &str, wanted: &str| said.is_empty() || said == wanted;
    if fits(os, GUEST_PLATFORM.0) && fits(architecture, GUEST_PLATFORM.1) {
        return Ok(());
    }
    Err(PlanError::Platform {
        image: image.name.to_owned(),
        os: os.clone(),
        architecture: architecture.clone(),
    })
}

/// `--name`, or image, tag and ten digits.
fn container_name(spec: &RunSpec, image: &str, host: &Host) -> String {
    spec.name.as_ref().map_or_else(|| usual_name(image, host), |name| name.as_str().to_owned())
}

/// What a container of an image is called where nobody says: image, tag and ten digits.
pub(crate) fn usual_name(image: &str, host: &Host) -> String {
    let number = u64::from_le_bytes(*host.random.last_chunk().expect("40 bytes hold 8"));
    let ending = format!("-{:010}", number % 10_000_000_000);
    Hostname::from_label(&image_label(image), &ending).as_str().to_owned()
}

/// `--hostname`, or the container's name.
fn hostname(spec: &RunSpec, name: &str) -> Hostname {
    spec.hostname.clone().unwrap_or_else(|| Hostname::from_label(name, ""))
}

/// `registry:5000/library/debian:bookworm@sha256:…` is `debian-bookworm`.
fn image_label(image: &str) -> String {
    let tagged = image.split_once('@').map_or(image, |(tagged, _)| tagged);
    let last = tagged.rsplit('/').next().unwrap_or(tagged);
    let (name, tag) = last.split_once(':').unwrap_or((last, "latest"));
    format!("{name}-{tag}")
}

fn process(
    spec: &RunSpec,
    image: &ImageConfig,
    host: &Host,
    hostname: &Hostname,
) -> Result<ProcessSpec, PlanError> {
    let options = &spec.options;
    Ok(ProcessSpec {
        args: arguments(spec, image)?,
        env: environment(spec, image, host, hostname),
        working_dir: working_dir(spec.working_dir.as_deref().unwrap_or(&image.working_dir))?,
        user: user(spec.user.as_deref().unwrap_or(&image.user))?,
        terminal: terminal(spec.stdio),
        stdin: spec.stdio != Stdio::OutputOnly,
        limits: limits::resources(options),
        more_groups: options.groups.clone(),
        capabilities: reach(options),
        no_new_privileges: options.no_new_privileges,
        oom_score_adjustment: options.oom_score_adjustment,
        seccomp: filter(options)?,
    })
}

/// Entrypoint, then command. `--entrypoint` takes the image's command away with its entrypoint; a
/// command on the command line takes the place of the image's.
fn arguments(spec: &RunSpec, image: &ImageConfig) -> Result<Vec<Vec<u8>>, PlanError> {
    let from_image = |words: &Option<Vec<String>>| -> Vec<Vec<u8>> {
        words.iter().flatten().map(|word| word.clone().into_bytes()).collect()
    };
    let entrypoint = match &spec.entrypoint {
        None => from_image(&image.entrypoint),
        Some(none) if none.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
    };
    let command = if spec.command.is_empty() && spec.entrypoint.is_none() {
        from_image(&image.cmd)
    } else {
        spec.command.clone()
    };
    let arguments = [entrypoint, command].concat();
    if arguments.first().is_none_or(Vec::is_empty) {
        return Err(PlanError::NoCommand);
    }
    if arguments.iter().any(|argument| argument.contains(&0)) {
        return Err(PlanError::Nul("the command"));
    }
    Ok(arguments)
}

/// Docker's own variables, the image's over them, `-e` over both. `HOME` is the agent's to add.
fn environment(
    spec: &RunSpec,
    image: &ImageConfig,
    host: &Host,
    hostname: &Hostname,
) -> Vec<Vec<u8>> {
    let mut env = Environment::default();
    env.set(b"PATH", DEFAULT_PATH.as_bytes());
    env.set(b"HOSTNAME", hostname.as_str().as_bytes());
    if matches!(spec.stdio, Stdio::Terminal(_)) {
        env.set(b"TERM", b"xterm");
    }
    for variable in &image.env {
        env.set_line(variable.as_bytes());
    }
    for change in &spec.env {
        env.change(change, &host.env);
    }
    env.into_lines()
}

/// An absolute path; an empty one is the root.
pub(crate) fn working_dir(wanted: &str) -> Result<String, PlanError> {
    let path = if wanted.is_empty() { "/" } else { wanted };
    if path.contains('\0') {
        return Err(PlanError::Nul("the working directory"));
    }
    if !path.starts_with('/') {
        return Err(PlanError::WorkingDirectory(path.to_owned()));
    }
    Ok(path.to_owned())
}

/// `USER[:GROUP]`, each a name or a number.
pub(crate) fn user(text: &str) -> Result<User, PlanError> {
    let mut parts = text.split(':');
    let user = parts.next().unwrap_or_default().to_owned();
    let group = parts.next().map(str::to_owned).filter(|group| !group.is_empty());
    if parts.next().is_some() || text.contains('\0') || (user.is_empty() && group.is_some()) {
        return Err(PlanError::User(text.to_owned()));
    }
    Ok(User { user, group })
}

fn terminal(stdio: Stdio) -> Option<WindowSize> {
    match stdio {
        Stdio::Terminal(size) => Some(size),
        Stdio::Pipes | Stdio::OutputOnly => None,
    }
}

/// Names that every container knows, as Docker writes them, and those that were asked for. Its own is added
/// when it is known where it is.
fn etc_files(spec: &RunSpec, host: &Host) -> EtcFiles {
    let mut hosts = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for ExtraHost { name, address } in &spec.options.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    EtcFiles { hosts, resolv_conf: spec.options.dns.resolv_conf(&host.resolv_conf, &[]) }
}

/// The size of `/dev/shm` in bytes; 0 is Docker's default.
fn shm_bytes(options: &Options) -> u64 {
    options.shm_size.map(|size| size.bytes).filter(|bytes| *bytes > 0).unwrap_or(SHM_BYTES)
}

/// The capabilities of root.
fn reach(options: &Options) -> Capabilities {
    match options.privileged {
        true => Capabilities::ALL,
        false => capabilities::tweak(&options.cap_add, &options.cap_drop),
    }
}

/// The filter of system calls. There is none by default: what a container must not reach is not in
/// its machine.
fn filter(options: &Options) -> Result<Vec<FilterInstruction>, SeccompError> {
    let profile = options.seccomp_profile.as_deref();
    profile.map_or_else(|| Ok(Vec::new()), |text| seccomp::compile(text, reach(options)))
}

/// The image's volumes but those that a memory file system takes the place of.
fn volumes(options: &Options, image: &ImageConfig) -> Result<Vec<String>, PlanError> {
    let mut volumes = Vec::new();
    for path in &image.volumes {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(PlanError::Volume(path.clone()));
        }
        let same = |other: &str| Path::new(other).components().eq(Path::new(path).components());
        if !options.tmpfs.iter().any(|tmpfs| same(&tmpfs.tmpfs.path)) {
            volumes.push(path.clone());
        }
    }
    Ok(volumes)
}

fn entropy(host: &Host) -> [u8; 32] {
    *host.random.first_chunk().expect("40 bytes hold 32")
}

fn warnings(spec: &RunSpec, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    if usize::from(spec.cpus.vcpus()) > host.cpus.len() {
        let (asked, there) = (spec.cpus, host.cpus.len());
        warnings.push(format!("--cpus {asked} is more than the {there} CPUs of this machine"));
    }
    let ports = &spec.options.ports;
    let is_alone = spec.options.network.networks.is_empty();
    if is_alone && (ports.all || !ports.published.is_empty()) {
        warnings.push("published ports are discarded: the container has no network".to_owned());
    }
    limits::warnings(spec, &mut warnings);
    warnings
}

#[cfg(test)]
mod option_tests;
#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
