//! What a person may ask of a container beside its program: each flag's words, understood.

mod cpu_set;
mod device_rate;
mod dns;
mod lines;
mod network;
mod network_rate;
mod networks;
mod port;
mod ports;
mod publish;
mod security;
mod storage;
mod sysctl;
mod tmpfs;
mod ulimit;

use serde::{Deserialize, Serialize};
use vmm::config::NetLimits;

use crate::capabilities::Capability;
use crate::limits::Size;
use crate::spec::Hostname;

pub use cpu_set::{CpuSet, CpuSetError};
pub use device_rate::{ByteRate, DeviceRate, DeviceRateError, DeviceRates, RequestRate};
pub use dns::{Dns, SearchDomain, SearchDomainError};
pub use lines::{LinesError, env_file, label_file};
pub(crate) use network::HOST_GATEWAY;
pub use network::{ExtraHost, ExtraHostError, HostAddress};
pub use network_rate::{NetworkRate, NetworkRateError};
pub use networks::{NetworkOption, NetworkOptionError, NetworkOptions};
pub use port::{ContainerPort, Expose, ExposeError, PortRange, PortRangeError, Protocol};
pub use ports::Ports;
pub use publish::{Publication, Publish, PublishError};
pub use security::{SecurityError, SecurityOption};
pub use storage::{StorageError, StorageOption};
pub use sysctl::{SysctlError, SysctlOption};
pub use tmpfs::{TmpfsError, TmpfsOption};
pub use ulimit::{Ulimit, UlimitError, ulimit_name};

/// The options of one container; the default is that nothing was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--init`.
    pub init: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`.
    pub cap_add: Vec<Capability>,
    /// `--cap-drop`.
    pub cap_drop: Vec<Capability>,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// Every `--security-opt`, in its words.
    pub security: Vec<String>,
    /// The text of the profile that `--security-opt seccomp=FILE` names.
    pub seccomp_profile: Option<String>,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// `--domainname`.
    pub domain_name: Option<Hostname>,
    /// `--add-host`.
    pub hosts: Vec<ExtraHost>,
    /// `--network` and what goes with it.
    pub network: NetworkOptions,
    /// `--tmpfs`.
    pub tmpfs: Vec<TmpfsOption>,
    /// `--shm-size`.
    pub shm_size: Option<Size>,
    /// `--sysctl`.
    pub sysctls: Vec<SysctlOption>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--pids-limit`; 0 and less are none.
    pub pids_limit: Option<i64>,
    /// `--memory-reservation`.
    pub memory_reservation: Option<Size>,
    /// `--memory-swap`.
    pub memory_swap: Option<MemorySwap>,
    /// `--oom-score-adj`.
    pub oom_score_adjustment: Option<i16>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--cpu-shares`; 0 is none.
    pub cpu_shares: Option<u64>,
    /// `--blkio-weight`; 0 is none.
    pub blkio_weight: Option<u16>,
    /// What the machine may use of the host.
    pub host: HostLimits,
    /// `-p`, `-P` and `--expose`.
    pub ports: Ports,
    /// `--dns` and its siblings.
    pub dns: Dns,
}

/// What a machine may use of the host beside its memory and its vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostLimits {
    /// `--cpuset-cpus`: the CPUs that it runs on; none is all.
    pub cpu_set: Option<CpuSet>,
    /// `--device-read-bps` and its siblings.
    pub devices: DeviceRates,
    /// `--network-rate`.
    pub network_rate: Option<NetworkRate>,
}

impl HostLimits {
    /// What each of the machine's network devices keeps to.
    #[must_use]
    pub fn net_limits(&self) -> NetLimits {
        self.network_rate.map(NetworkRate::limits).unwrap_or_default()
    }
}

/// `--memory-swap`: memory and swap together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySwap {
    /// `-1`.
    Unlimited,
    /// So many bytes.
    Bytes(Size),
}

impl std::str::FromStr for MemorySwap {
    type Err = crate::limits::SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-1" { Ok(Self::Unlimited) } else { text.parse().map(Self::Bytes) }
    }
}
