//! Capabilities by name, and which of them a container has.

use std::fmt;
use std::str::FromStr;

use protocol::Capabilities;
use thiserror::Error;

/// The names, each at its number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default set (moby's `caps.DefaultCapabilities`): chown, dac_override, fowner, fsetid,
/// kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write,
/// setfcap.
pub const DEFAULT: Capabilities = Capabilities { bits: 0xa804_25fb };

/// A capability, or all of them, as `--cap-add` and `--cap-drop` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `ALL`.
    All,
    /// The one with this number.
    Number(u8),
}

/// Text that is no capability.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid capability: '{0}'")]
pub struct CapabilityError(String);

impl FromStr for Capability {
    type Err = CapabilityError;

    /// A name in either case, with or without `CAP_` before it.
    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Self::All);
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name);
        let number = number.ok_or_else(|| CapabilityError(text.to_owned()))?;
        Ok(Self::Number(u8::try_from(number).expect("there are 41")))
    }
}

impl fmt::Display for Capability {
    /// The whole name, as Docker and the kernel have it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("ALL"),
            Self::Number(number) => write!(formatter, "CAP_{}", NAMES[usize::from(*number)]),
        }
    }
}

impl Capability {
    fn bits(self) -> u64 {
        match self {
            Self::All => Capabilities::ALL.bits,
            Self::Number(number) => 1 << number,
        }
    }
}

/// The default set changed as Docker changes it (moby's `caps.TweakCapabilities`): `ALL` among
/// what is added begins with everything and only drops, `ALL` among what is dropped begins with
/// nothing and only adds.
#[must_use]
pub fn tweak(add: &[Capability], drop: &[Capability]) -> Capabilities {
    let union = |set: &[Capability]| set.iter().fold(0, |bits, one| bits | one.bits());
    let named = |set: &[Capability]| {
        let named: Vec<_> = set.iter().copied().filter(|one| *one != Capability::All).collect();
        union(&named)
    };
    let bits = if add.contains(&Capability::All) {
        Capabilities::ALL.bits & !named(drop)
    } else if drop.contains(&Capability::All) {
        union(add)
    } else {
        (DEFAULT.bits & !union(drop)) | union(add)
    };
    Capabilities { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Capability> {
        text.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_default_set_has_dockers_names() {
        let names = "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service \
            net_raw sys_chroot mknod audit_write setfcap";
        assert_eq!(tweak(&parse(names), &[Capability::All]), DEFAULT);
        assert_eq!(tweak(&[], &[]), DEFAULT);
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, wanted) in [
            ("NET_ADMIN", Capability::Number(12)),
            ("cap_net_admin", Capability::Number(12)),
            ("Sys_Ptrace", Capability::Number(19)),
            ("CHECKPOINT_RESTORE", Capability::Number(40)),
            ("all", Capability::All),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        for text in ["", "CAP_", "NET", "cap_all", "CAP_CAP_KILL"] {
            assert_eq!(text.parse::<Capability>(), Err(CapabilityError(text.to_owned())));
        }
    }

    #[test]
    fn sets_are_changed_as_docker_changes_them() {
        let bit = |name: &str| 1 << NAMES.iter().position(|known| *known == name).unwrap();
        let (all, default) = (u64::MAX, DEFAULT.bits);
        for (add, drop, wanted) in [
            ("sys_ptrace", "", default | bit("SYS_PTRACE")),
            ("", "kill", default & !bit("KILL")),
            ("kill", "kill", default),
            ("all", "", all),
            ("all", "kill", all & !bit("KILL")),
            ("", "all", 0),
            ("chown", "all", bit("CHOWN")),
            ("chown", "all chown", bit("CHOWN")),
            ("all", "all", all),
        ] {
            assert_eq!(tweak(&parse(add), &parse(drop)).bits, wanted, "+{add} -{drop}");
        }
    }
}
