//! The networks of containers: what they are, who is on them, and what the host has of them.
//!
//! There is no daemon. A network is a folder with a document and a file for each address that is taken;
//! its bridge and its firewall's rules are made when they are needed, and made anew when they are gone.
//! docs/network.md tells the way of a packet.

mod endpoint;
mod error;
pub(crate) mod files;
pub(crate) mod host;
mod leases;
mod link;
mod mac;
mod manage;
mod netlink;
mod pools;
mod prefix;
mod record;
mod rules;
pub mod user;

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use serde::{Deserialize, Serialize};

pub use self::endpoint::Endpoint;
pub use self::error::NetworkError;
pub use self::leases::Lease;
pub use self::mac::{Mac, MacError};
pub use self::prefix::{Address, Prefix, PrefixError, Subnet, Subnet6};
pub use self::record::{DEFAULT_NETWORK, NO_NETWORK, Network, NetworkSpec, USER_NETWORK};

pub(crate) use self::endpoint::Connection;
pub(crate) use self::leases::Applicant;

use self::leases::Leases;
use self::pools::Taken;
use self::record::Surroundings;
use crate::containers::files::{
    Durability, create_private, file_error, open_lock, remove_folder, sync_folder, write,
};
use crate::error::Error;
use crate::host::random;
use crate::places::Places;

/// The version of a network's document.
const VERSION: u32 = 1;
const RECORD: &str = "network.json";
const LEASES: &str = "leases";
const LOCK: &str = ".lock";
/// What the names of folders that are being removed begin with, which no network's name does.
const GONE: &str = ".gone-";

/// Who carries a container's frames between its machine and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carrier {
    /// The host's kernel.
    #[serde(rename = "vhost-net")]
    Kernel,
    /// The machine's own process.
    #[serde(rename = "machine")]
    Machine,
    /// passt, and the machine's own process.
    #[serde(rename = "passt")]
    Passt,
}

impl Carrier {
    /// That of a tap, with vhost-net behind it or without.
    pub(crate) fn of(vhost: Option<&File>) -> Self {
        if vhost.is_some() { Self::Kernel } else { Self::Machine }
    }
}

/// All networks under one root.
#[derive(Clone, Debug)]
pub struct Networks {
    folder: PathBuf,
    containers: PathBuf,
}

/// The same, held by whoever is the only one to change them.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    networks: &'a Networks,
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock")]
    lock: File,
}

impl Networks {
    /// The networks of these places.
    #[must_use]
    pub fn open(places: &Places) -> Self {
        Self { folder: places.networks(), containers: places.containers() }
    }

    /// All that were made, by their names.
    ///
    /// # Errors
    /// When the folder or a network's document cannot be read.
    pub fn list(&self) -> Result<Vec<Network>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(file_error("read", &self.folder))?,
        };
        let mut networks = Vec::new();
        for entry in entries {
            let name = entry.map_err(file_error("read", &self.folder))?.file_name();
            if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
                networks.extend(self.named(name)?);
            }
        }
        networks.sort_by(|one: &Network, other| one.name.cmp(&other.name));
        Ok(networks)
    }

    /// The one with this name, this id, or the only one whose id begins like this.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, words: &str) -> Result<Network, Error> {
        if is_plain(words)
            && let Some(network) = self.named(words)?
        {
            return Ok(network);
        }
        let of_id = |network: &Network| !words.is_empty() && network.id.starts_with(words);
        let mut found: Vec<_> = self.list()?.into_iter().filter(of_id).collect();
        let words = words.to_owned();
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => Err(NetworkError::Ambiguous { words }.into()),
            (None, _) => Err(NetworkError::Unknown { words }.into()),
        }
    }

    /// Who is on a network, by their addresses.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn leases(&self, network: &Network) -> Result<Vec<Lease>, Error> {
        self.leases_of(network).list()
    }

    /// The folder with a file for each address of a network that is taken.
    #[must_use]
    pub fn leases_folder(&self, network: &Network) -> PathBuf {
        self.folder.join(&network.name).join(LEASES)
    }

    /// Makes sure that nobody else changes networks or gives addresses meanwhile.
    pub(crate) fn lock(&self) -> Result<Locked<'_>, Error> {
        create_private(&self.folder)?;
        let path = self.folder.join(LOCK);
        let lock = open_lock(&path)?;
        retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
            .map_err(|error| file_error("lock", &path)(error.into()))?;
        Ok(Locked { networks: self, lock })
    }

    fn leases_of<'a>(&'a self, network: &'a Network) -> Leases<'a> {
        Leases { network, folder: self.leases_folder(network), containers: &self.containers }
    }

    /// The network of this name, if there is one.
    fn named(&self, name: &str) -> Result<Option<Network>, Error> {
        let path = self.folder.join(name).join(RECORD);
        let text = match fs::read(&path) {
            Err(error) if is_nothing(&error) => return Ok(None),
            text => text.map_err(file_error("read", &path))?,
        };
        let broken = |reason: String| {
            let source = io::Error::new(io::ErrorKind::InvalidData, reason);
            file_error("read", &path)(source)
        };
        let network: Network =
            serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        if network.version > VERSION {
            return Err(broken("a newer hyperrun has written it".to_owned()));
        }
        Ok(Some(network))
    }
}

impl Locked<'_> {
    /// Makes a network of addresses that neither these others have nor any network that there is.
    pub(crate) fn create(
        &self,
        spec: NetworkSpec,
        is_usual: bool,
        mut taken: Taken,
        mtu: u16,
    ) -> Result<Network, Error> {
        let networks = self.networks;
        if is_plain(&spec.name) && networks.named(&spec.name)?.is_some() {
            return Err(NetworkError::NameInUse { name: spec.name }.into());
        }
        for other in networks.list()? {
            let holder = format!("network {}", other.name);
            taken.subnets.push((other.subnet, holder.clone()));
            taken.subnets6.extend(other.subnet6.map(|subnet| (subnet, holder)));
        }
        let id: [u8; 32] = random()?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let network = Network::decide(spec, &Surroundings { id, is_usual, taken, mtu })?;
        let folder = networks.folder.join(&network.name);
        create_private(&folder)?;
        let text = serde_json::to_vec_pretty(&network).expect("words and numbers are JSON");
        write(&folder, RECORD, &text, Durability::Synced)?;
        sync_folder(&networks.folder)?;
        Ok(network)
    }

    /// Whether nobody is on a network.
    pub(crate) fn check_unused(&self, network: &Network) -> Result<(), Error> {
        let leases = self.networks.leases(network)?;
        if !leases.is_empty() {
            let holders = leases.into_iter().map(|lease| lease.name).collect();
            return Err(NetworkError::InUse { name: network.name.clone(), holders }.into());
        }
        Ok(())
    }

    /// Forgets a network that nobody is on.
    pub(crate) fn remove(&self, network: &Network) -> Result<(), Error> {
        self.check_unused(network)?;
        remove_folder(&self.networks.folder.join(&network.name), GONE)
    }

    /// Gives a container an address, the one that it has already if it has one.
    pub(crate) fn grant(
        &self,
        network: &Network,
        applicant: &Applicant<'_>,
    ) -> Result<Lease, Error> {
        self.networks.leases_of(network).grant(applicant)
    }
}

/// Whether these words can be the name of a folder of a network.
fn is_plain(words: &str) -> bool {
    !words.is_empty() && !words.starts_with('.') && !words.contains(['/', '\0'])
}

/// Whether there is no such file, nor could there be one.
fn is_nothing(error: &io::Error) -> bool {
    let kinds =
        [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory, io::ErrorKind::InvalidFilename];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests;
