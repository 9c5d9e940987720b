//! The flags of `run` that say what a container may do and use.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use clap::ArgAction;
use runtime::Error;
use runtime::capabilities::Capability;
use runtime::limits::{ScratchSize, Size};
use runtime::network::{DEFAULT_NETWORK, Mac, USER_NETWORK};
use runtime::options::{
    ByteRate, CpuSet, DeviceRates, ExtraHost, HostLimits, LinesError, MemorySwap, NetworkOption,
    NetworkOptions, NetworkRate, Options, RequestRate, SecurityOption, StorageOption, SysctlOption,
    TmpfsOption, Ulimit, env_file,
};
use runtime::spec::{EnvChange, Hostname};

/// What a container may do and use.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct OptionArgs {
    /// Read variables from this file, a KEY=VALUE or a KEY in each line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Start the program under a small init that passes signals on and collects the dead
    #[arg(long)]
    pub(crate) init: bool,
    /// Mount a memory file system, as /run or /run:size=64m,mode=755,exec
    #[arg(long, value_name = "FOLDER[:OPTIONS]")]
    pub(crate) tmpfs: Vec<TmpfsOption>,
    /// Give /dev/shm this size [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<Size>,
    /// Set a limit of each process, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Make a setting of the machine's kernel, as net.ipv4.ip_forward=1
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) sysctl: Vec<SysctlOption>,
    /// Give root a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<Capability>,
    /// Take a capability from root, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<Capability>,
    /// Give root all capabilities and the container all devices of its machine
    #[arg(long)]
    pub(crate) privileged: bool,
    /// no-new-privileges, or seccomp=FILE with a profile in Docker's form
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<SecurityOption>,
    /// Add the user to a group, by name or number
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<ExtraHost>,
    /// Connect the container to this network, or to none; bridge is usual for root, user for others
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Vec<NetworkOption>,
    /// Call the container so, too, on its first network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// Give it this address there
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<Ipv4Addr>,
    /// Give it this IPv6 address there
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<Ipv6Addr>,
    /// Give it this hardware address there
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<Mac>,
    /// Move no more bytes than this in each second, as 10mb, into each interface and out of it
    #[arg(long, value_name = "SIZE")]
    pub(crate) network_rate: Option<NetworkRate>,
    /// Name the NIS domain the program sees
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<Hostname>,
    /// Let the container have this many processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Reclaim the container's memory last as long as it uses less than this
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_reservation: Option<Size>,
    /// Limit memory and swap together; there is no swap, so only that it fits -m matters
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<MemorySwap>,
    /// Say how ready the kernel is to kill the program for want of memory, -1000 to 1000
    #[arg(long, value_name = "NUMBER", value_parser = oom_score, allow_negative_numbers = true)]
    pub(crate) oom_score_adj: Option<i16>,
    /// Discarded with a warning: cgroup v2 has no such thing
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// size=SIZE bounds what the container may write on its disk [default: 10g]
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) storage_opt: Vec<StorageOption>,
    /// Weigh the container's CPU time, 2 to 262144, 1024 being usual
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) cpu_shares: Option<u64>,
    /// Discarded with a warning: nobody else is at a machine's disks
    #[arg(long, value_name = "NUMBER")]
    pub(crate) blkio_weight: Option<u16>,
    /// Run the machine on these CPUs of the host, as 0-2,7
    #[arg(long, value_name = "CPUS")]
    pub(crate) cpuset_cpus: Option<CpuSet>,
    /// Read no more than this in each second, as /dev/sda:1mb; it holds for all disks together
    #[arg(long, value_name = "DEVICE:SIZE")]
    pub(crate) device_read_bps: Vec<ByteRate>,
    /// Write no more than this in each second
    #[arg(long, value_name = "DEVICE:SIZE")]
    pub(crate) device_write_bps: Vec<ByteRate>,
    /// Read no more often than this in each second, as /dev/sda:100
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_read_iops: Vec<RequestRate>,
    /// Write no more often than this in each second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_write_iops: Vec<RequestRate>,
    /// Refused: the container is a machine, and has namespaces of its own
    #[arg(long, value_name = "MODE", value_parser = own_namespace, action = ArgAction::Append)]
    pub(crate) ipc: Vec<OwnNamespace>,
    /// Refused: as --ipc
    #[arg(long, value_name = "MODE", value_parser = own_namespace, action = ArgAction::Append)]
    pub(crate) pid: Vec<OwnNamespace>,
    /// Refused: as --ipc
    #[arg(long, value_name = "MODE", value_parser = own_namespace, action = ArgAction::Append)]
    pub(crate) uts: Vec<OwnNamespace>,
}

/// A namespace mode that is what every container has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnNamespace;

impl OptionArgs {
    /// The variables of the files, in order.
    ///
    /// # Errors
    /// When a file cannot be read or a line is no variable.
    pub(crate) fn variables(&self) -> Result<Vec<EnvChange>, Error> {
        variables(&self.env_file)
    }

    /// The size of the container's disk, if one is asked for.
    pub(crate) fn scratch_size(&self) -> Option<ScratchSize> {
        self.storage_opt.last().map(|StorageOption::Size(size)| *size)
    }

    /// What they mean.
    ///
    /// # Errors
    /// When a profile cannot be read, or networks make no sense together.
    pub(crate) fn options(self) -> Result<Options, Error> {
        let network = network(
            self.network,
            NetworkOption {
                name: String::new(),
                aliases: self.network_alias,
                address: self.ip,
                address6: self.ip6,
                mac: self.mac_address,
            },
        )?;
        let mut options = Options {
            init: self.init,
            privileged: self.privileged,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            no_new_privileges: false,
            security: self.security_opt.iter().map(ToString::to_string).collect(),
            seccomp_profile: None,
            groups: self.group_add,
            domain_name: self.domainname,
            hosts: self.add_host,
            network,
            tmpfs: self.tmpfs,
            shm_size: self.shm_size,
            sysctls: self.sysctl,
            ulimits: self.ulimit,
            pids_limit: self.pids_limit,
            memory_reservation: self.memory_reservation,
            memory_swap: self.memory_swap,
            oom_score_adjustment: self.oom_score_adj,
            oom_kill_disable: self.oom_kill_disable,
            cpu_shares: self.cpu_shares,
            blkio_weight: self.blkio_weight,
            host: HostLimits {
                cpu_set: self.cpuset_cpus,
                devices: DeviceRates {
                    read_bps: self.device_read_bps,
                    write_bps: self.device_write_bps,
                    read_iops: self.device_read_iops,
                    write_iops: self.device_write_iops,
                },
                network_rate: self.network_rate,
            },
            ..Options::default()
        };
        for option in self.security_opt {
            match option {
                SecurityOption::NoNewPrivileges(wanted) => options.no_new_privileges = wanted,
                SecurityOption::Seccomp(path) => {
                    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
                    options.seccomp_profile = Some(text);
                }
                SecurityOption::AsItIs(_) => {}
            }
        }
        Ok(options)
    }
}

/// The networks that were asked for, or the usual one.
fn network(asked: Vec<NetworkOption>, first: NetworkOption) -> Result<NetworkOptions, Error> {
    let usual = if runtime::is_superuser() { DEFAULT_NETWORK } else { USER_NETWORK };
    Ok(NetworkOptions::decide(asked, first, usual)?)
}

/// The variables of these files, in order.
///
/// # Errors
/// When a file cannot be read or a line is no variable.
pub(crate) fn variables(files: &[PathBuf]) -> Result<Vec<EnvChange>, Error> {
    lines_of(files, env_file)
}

/// What the lines of these files mean, in order.
///
/// # Errors
/// When a file cannot be read or a line makes no sense.
pub(crate) fn lines_of<T>(
    files: &[PathBuf],
    parse: impl Fn(&[u8]) -> Result<Vec<T>, LinesError>,
) -> Result<Vec<T>, Error> {
    let mut lines = Vec::new();
    for path in files {
        lines.extend(parse(&read(path)?).map_err(in_file(path))?);
    }
    Ok(lines)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { action: "read", path: path.into(), source })
}

fn in_file(path: &Path) -> impl FnOnce(LinesError) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Lines { path, source }
}

fn oom_score(text: &str) -> Result<i16, String> {
    let score = text.parse().ok().filter(|score| (-1000..=1000).contains(score));
    score.ok_or_else(|| format!("invalid value {text}, range for oom score adj is [-1000, 1000]"))
}

/// `private`, and `shareable`, which nothing can make use of; anything else is another's.
fn own_namespace(text: &str) -> Result<OwnNamespace, String> {
    match text {
        "" | "private" | "shareable" => Ok(OwnNamespace),
        _ => Err(format!(
            "{text} is another's namespace: a container is a machine of its own, with a kernel that \
             neither the host nor another container shares"
        )),
    }
}
