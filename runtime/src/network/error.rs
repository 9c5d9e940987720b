//! Why there is no network.

use std::io;
use std::net::IpAddr;

use thiserror::Error;

use super::prefix::PrefixError;

/// Why a network was not made, or a container not connected to it.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// No network is meant.
    #[error("network {words} not found")]
    Unknown {
        /// As it was typed.
        words: String,
    },
    /// More than one network's id begins like this.
    #[error("network {words} is ambiguous: more than one id begins like this")]
    Ambiguous {
        /// As it was typed.
        words: String,
    },
    /// There is one of this name.
    #[error("network with name {name} already exists")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// A name that no network can have.
    #[error("{reason}")]
    Name {
        /// Why.
        reason: String,
    },
    /// A subnet, gateway or range that makes no sense.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Addresses that do not fit together.
    #[error("{reason}")]
    Address {
        /// Why.
        reason: String,
    },
    /// The addresses belong to somebody else.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap {
        /// Whose they are.
        other: String,
    },
    /// All addresses that networks are given are taken.
    #[error("all predefined address pools have been fully subnetted")]
    NoPool,
    /// All addresses of a network are taken.
    #[error("no available IPv4 addresses on this network's address pools: {network}")]
    Exhausted {
        /// The network's name.
        network: String,
    },
    /// Somebody has the address.
    #[error("Address already in use: {address}")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// Who.
        holder: String,
    },
    /// Containers are connected to it.
    #[error("error while removing network: network {name} has active endpoints")]
    InUse {
        /// Its name.
        name: String,
        /// The containers' names.
        holders: Vec<String>,
    },
    /// It is there for all.
    #[error("{name} is a pre-defined network and cannot be removed")]
    Predefined {
        /// Its name.
        name: String,
    },
    /// The host's own network was not set up.
    #[error("cannot {action}")]
    Host {
        /// What was tried, as a verb with its object.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// passt is not there, or did not get ready.
    #[error("cannot reach a network without privilege: {reason}")]
    User {
        /// What it said.
        reason: String,
    },
    /// There is no `nft`, or it refused the rules.
    #[error("cannot make the firewall's rules of network {network}: {reason}")]
    Rules {
        /// The network's name.
        network: String,
        /// What it said.
        reason: String,
    },
}

impl NetworkError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some("`hyperrun network ls` lists networks".to_owned()),
            Self::Ambiguous { .. } => Some("give more digits of the id".to_owned()),
            Self::NameInUse { .. } => {
                Some("choose another name, or remove that network".to_owned())
            }
            Self::Overlap { other } => {
                Some(format!("{other}; choose other addresses with --subnet"))
            }
            Self::NoPool => Some("remove networks, or name addresses with --subnet".to_owned()),
            Self::Exhausted { .. } => {
                Some("remove containers, or make a network with a larger --subnet".to_owned())
            }
            Self::AddressInUse { holder, .. } => Some(format!("{holder} has it")),
            Self::InUse { holders, .. } => Some(format!(
                "remove or disconnect {} first",
                holders.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            )),
            Self::Host { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "bridges need root; without it there are --network user and --network none"
                    .to_owned(),
            ),
            Self::Rules { reason, .. } if reason.contains("not installed") => {
                Some("install nftables, or run with --network none".to_owned())
            }
            Self::User { reason } if reason.contains("not installed") => {
                Some("install the package passt, or run with --network none".to_owned())
            }
            Self::User { reason } if reason.contains("too old") => Some(
                "install a passt of March 2023 or later, or run with --network none".to_owned(),
            ),
            Self::Name { .. }
            | Self::User { .. }
            | Self::Prefix(_)
            | Self::Address { .. }
            | Self::Predefined { .. }
            | Self::Host { .. }
            | Self::Rules { .. } => None,
        }
    }
}
