//! A container's place on its networks: asked for, given when it is created, and taken when it starts.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use protocol::{Interface, Interface6};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use vmm::config::NetLimits;

use super::error::NetworkError;
use super::leases::Applicant;
use super::record::{NO_NETWORK, NetworkSpec, USER_NETWORK};
use super::{DEFAULT_NETWORK, Lease, Mac, Network, Networks, host, link};
use crate::containers::Record;
use crate::error::Error;
use crate::options::{NetworkOption, NetworkOptions};
use crate::places::Places;
use crate::supervisor::SPARE_INTERFACES;

/// How many digits of a container's id are in its taps' names, which have one more letter at most.
const TAP_DIGITS: usize = 12;
/// What the names of taps end with while the one of an earlier start is not gone yet.
const ENDINGS: [&str; 5] = ["", "a", "b", "c", "d"];

/// How many networks a machine can be on.
const MAX_INTERFACES: usize = 1 + SPARE_INTERFACES as usize;

/// A container's place on a network, as it is written down with the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// What else the container is called there.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Its hardware address.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
}

/// The host's end of an interface, and what the agent is told of the other.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The tap; without it there is no interface any more.
    pub(crate) tap: File,
    /// What moves its frames in the machine's place, where that can be.
    pub(crate) vhost: Option<File>,
    /// What the container sees.
    pub(crate) interface: Interface,
    /// Where names are asked for.
    pub(crate) resolver: Ipv4Addr,
}

impl Networks {
    /// Gives a container that is being created its places on the networks that it asks for.
    pub(crate) fn join(&self, record: &mut Record, asked: &NetworkOptions) -> Result<(), Error> {
        let is_made =
            |option: &&NetworkOption| ![NO_NETWORK, USER_NETWORK].contains(&&*option.name);
        for option in asked.networks.iter().filter(is_made) {
            let network = self.named_or_default(&option.name)?;
            check_wish(&network, option)?;
            if record.networks.iter().any(|endpoint| endpoint.network_id == network.id) {
                return Err(twice(record, &network));
            }
            let endpoint = self.admit(record, &network, option)?;
            record.networks.push(endpoint);
        }
        Ok(())
    }

    /// Gives a container a place on a network.
    pub(crate) fn admit(
        &self,
        record: &Record,
        network: &Network,
        option: &NetworkOption,
    ) -> Result<Endpoint, Error> {
        let applicant = Applicant {
            address: option.address,
            address6: option.address6,
            mac: option.mac,
            aliases: &option.aliases,
            ..applicant(record)
        };
        let lease = self.lock()?.grant(network, &applicant)?;
        self.allow_chosen(network, &lease)?;
        Ok(Endpoint {
            network: network.name.clone(),
            network_id: network.id.clone(),
            aliases: lease.aliases,
            mac: lease.mac,
            address: lease.address,
            address6: lease.address6,
        })
    }

    /// Takes a container's place on a network back.
    pub(crate) fn leave(&self, container: &str, endpoint: &Endpoint) {
        // A network that is gone has no leases; what cannot be removed is reclaimed by who needs it.
        if let Ok(network) = self.network_of(endpoint) {
            let _ = self.leases_of(&network).end(container, endpoint.address);
        }
    }

    /// Takes all places of a container back, which must still be there: else somebody might have been given
    /// them meanwhile.
    pub(crate) fn leave_all<C>(&self, record: &Record<C>) {
        record.networks.iter().for_each(|endpoint| self.leave(&record.id, endpoint));
    }

    /// Writes a container's new name into its leases.
    pub(crate) fn rename(&self, record: &Record, name: &str) -> Result<(), Error> {
        for endpoint in &record.networks {
            if let Ok(network) = self.network_of(endpoint) {
                let lease = Lease { name: name.to_owned(), ..lease(record, endpoint) };
                let _locked = self.lock()?;
                self.leases_of(&network).put(&lease)?;
            }
        }
        Ok(())
    }

    /// Opens a container's interfaces, in the order of its networks.
    pub(crate) fn connect(&self, record: &Record) -> Result<Vec<Connection>, Error> {
        if record.networks.len() > MAX_INTERFACES {
            let reason = format!("a machine has {MAX_INTERFACES} network interfaces at most");
            return Err(NetworkError::Address { reason }.into());
        }
        let places = record.networks.iter().enumerate();
        places.map(|(index, endpoint)| self.connect_one(record, index, endpoint)).collect()
    }

    /// Opens the interface of a place, which is the container's `index`th.
    pub(super) fn connect_one(
        &self,
        record: &Record,
        index: usize,
        endpoint: &Endpoint,
    ) -> Result<Connection, Error> {
        let network = self.network_of(endpoint)?;
        self.reclaim(record, &network, endpoint)?;
        let bridge = host::ensure(self, &network)?;
        let (name, tap) = open_tap(&record.id, index, &network)?;
        host::plug(&network, bridge, &name, endpoint.mac)?;
        let interface = interface(&network, endpoint);
        // It knows no limits.
        let is_limited = record.host.net_limits() != NetLimits::default();
        let vhost = if is_limited { None } else { vmm::open_vhost().ok() };
        Ok(Connection { tap, vhost, interface, resolver: network.gateway })
    }

    /// The network that a container has its place on.
    fn network_of(&self, endpoint: &Endpoint) -> Result<Network, Error> {
        let network = self.named(&endpoint.network)?;
        let unknown = || NetworkError::Unknown { words: endpoint.network.clone() }.into();
        network.filter(|network| network.id == endpoint.network_id).ok_or_else(unknown)
    }

    /// A lease that a crash of the host has lost is there again.
    fn reclaim(
        &self,
        record: &Record,
        network: &Network,
        endpoint: &Endpoint,
    ) -> Result<(), Error> {
        let leases = self.leases_of(network);
        if leases.holder(endpoint.address).is_some_and(|lease| lease.container == record.id) {
            return Ok(());
        }
        let applicant = Applicant {
            aliases: &endpoint.aliases,
            address: Some(endpoint.address),
            address6: endpoint.address6,
            mac: Some(endpoint.mac),
            ..applicant(record)
        };
        let lease = self.lock()?.grant(network, &applicant)?;
        self.allow_chosen(network, &lease)
    }

    /// What a person has chosen has rules of its own.
    fn allow_chosen(&self, network: &Network, lease: &Lease) -> Result<(), Error> {
        let is_chosen = lease.is_chosen(network);
        if !is_chosen || link::bridge(network).is_ok_and(|bridge| bridge.is_none()) {
            return Ok(());
        }
        let _locked = self.lock()?;
        host::enforce(self, network)
    }

    /// The network of this name; the default one is made when somebody first asks for it.
    pub(super) fn named_or_default(&self, words: &str) -> Result<Network, Error> {
        match self.find(words) {
            Err(Error::Network(NetworkError::Unknown { .. })) if words == DEFAULT_NETWORK => {
                self.make_default()
            }
            found => found,
        }
    }

    fn make_default(&self) -> Result<Network, Error> {
        let spec = NetworkSpec { name: DEFAULT_NETWORK.to_owned(), ..NetworkSpec::default() };
        match self.make(spec) {
            Err(Error::Network(NetworkError::NameInUse { .. })) => self.find(DEFAULT_NETWORK),
            made => made,
        }
    }

    /// Makes a network of addresses that nobody else on this host has.
    pub(crate) fn make(&self, spec: NetworkSpec) -> Result<Network, Error> {
        let failed = |source| {
            let action = "look at the host's routes".to_owned();
            NetworkError::Host { action, source }
        };
        let routes = link::routes().map_err(failed)?;
        let usual = Places { data: Places::SYSTEM.into() }.networks();
        let is_usual = spec.name == DEFAULT_NETWORK && self.folder == usual;
        self.lock()?.create(spec, is_usual, routes.taken, routes.mtu)
    }
}

/// The lease that belongs to a container's place.
fn lease(record: &Record, endpoint: &Endpoint) -> Lease {
    Lease {
        container: record.id.clone(),
        name: record.name.clone(),
        hostname: record.container.hostname.clone(),
        aliases: endpoint.aliases.clone(),
        mac: endpoint.mac,
        address: endpoint.address,
        address6: endpoint.address6,
        dns: record.dns.servers.clone(),
    }
}

fn applicant(record: &Record) -> Applicant<'_> {
    Applicant {
        container: &record.id,
        name: &record.name,
        hostname: &record.container.hostname,
        dns: &record.dns.servers,
        ..Applicant::default()
    }
}

/// As with Docker, nobody chooses an address of a network that is there for all.
fn check_wish(network: &Network, option: &NetworkOption) -> Result<(), Error> {
    if network.is_default() && (option.address.is_some() || option.address6.is_some()) {
        let reason = format!(
            "invalid config for network {}: user specified IP address is supported on user defined \
             networks only",
            network.name
        );
        return Err(NetworkError::Address { reason }.into());
    }
    Ok(())
}

pub(super) fn twice(record: &Record, network: &Network) -> Error {
    let (name, network) = (&record.name, &network.name);
    let reason = format!("endpoint with name {name} already exists in network {network}");
    NetworkError::Address { reason }.into()
}

/// A tap that nobody has, and its name. It is gone with the last who has it open.
fn open_tap(id: &str, index: usize, network: &Network) -> Result<(String, File), Error> {
    let digits = id.get(..TAP_DIGITS - usize::from(index > 0)).unwrap_or(id);
    let number = if index > 0 { index.to_string() } else { String::new() };
    let mut failure = io::Error::from(io::ErrorKind::InvalidInput);
    for ending in ENDINGS {
        let name = format!("hr{digits}{number}{ending}");
        match vmm::open_tap(&name) {
            Ok(tap) => return Ok((name, tap)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => failure = error,
            Err(error) => {
                failure = error;
                break;
            }
        }
    }
    let action = format!("make an interface for network {}", network.name);
    Err(NetworkError::Host { action, source: failure }.into())
}

/// What the container sees of its place.
fn interface(network: &Network, endpoint: &Endpoint) -> Interface {
    let leads_out = !network.internal;
    let six = endpoint.address6.zip(network.subnet6).map(|(address, subnet)| Interface6 {
        address,
        prefix_bits: subnet.bits(),
        gateway: network.gateway6.filter(|_| leads_out),
    });
    Interface {
        mac: endpoint.mac.0,
        address: endpoint.address,
        prefix_bits: network.subnet.bits(),
        gateway: leads_out.then_some(network.gateway),
        six,
        mtu: network.mtu,
        offloads: true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::containers::sample;
    use crate::network::record::tests::spec;

    struct World {
        folder: tempfile::TempDir,
        networks: Networks,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let networks = Networks::open(&Places { data: folder.path().to_owned() });
            Self { folder, networks }
        }

        fn container(&self, name: &str, digit: &str) -> Record {
            let record = sample(&digit.repeat(64), name);
            fs::create_dir_all(self.folder.path().join("containers").join(&record.id)).unwrap();
            record
        }

        fn join(&self, record: &mut Record, asked: &[&str]) -> Result<(), Error> {
            let networks = asked.iter().map(|text| text.parse().unwrap()).collect();
            self.networks.join(record, &NetworkOptions { networks })
        }

        fn names(&self, network: &str) -> Vec<String> {
            let network = self.networks.find(network).unwrap();
            let leases = self.networks.leases(&network).unwrap();
            leases.into_iter().map(|lease| lease.name).collect()
        }
    }

    #[test]
    fn a_container_has_a_place_on_each_network_until_it_goes() {
        let world = World::new();
        world.networks.make(spec("web")).unwrap();
        let mut finch = world.container("finch", "a");
        world.join(&mut finch, &["name=web,alias=db", "bridge"]).unwrap();
        let [web, usual] = &finch.networks[..] else { panic!("{:?}", finch.networks) };
        assert_eq!((web.network.as_str(), usual.network.as_str()), ("web", "bridge"));
        assert_eq!((&web.aliases[..], web.mac), (&["db".to_owned()][..], Mac::of(web.address)));
        assert_eq!(
            (world.names("web"), world.names("bridge")),
            (vec!["finch".into()], vec!["finch".into()])
        );
        world.networks.rename(&finch, "wren").unwrap();
        assert_eq!(world.names("web"), ["wren"]);
        world.networks.leave_all(&finch);
        assert!(world.names("web").is_empty() && world.names("bridge").is_empty());
        let mut alone = world.container("alone", "b");
        world.join(&mut alone, &["none"]).unwrap();
        assert_eq!(alone.networks, []);
    }

    #[test]
    fn what_gives_no_place_is_said() {
        let world = World::new();
        let web = world.networks.make(spec("web")).unwrap();
        for (asked, wanted) in [
            (&["nobody"][..], "network nobody not found"),
            (&["web", "web"], "endpoint with name finch already exists in network web"),
            (&["name=bridge,ip=10.0.0.9"], "supported on user defined networks only"),
            (&["name=web,ip=10.255.255.9"], "no configured subnet or ip-range"),
        ] {
            let mut finch = world.container("finch", "a");
            let error = world.join(&mut finch, asked).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            world.networks.leave_all(&finch);
        }
        assert!(world.names(&web.id).is_empty());
    }

    #[test]
    fn a_network_that_is_not_internal_is_a_way_out() {
        let world = World::new();
        let specs = ["web", "back"].map(|name| NetworkSpec { ipv6: true, ..spec(name) });
        let [web, back] = specs.map(|spec| world.networks.make(spec).unwrap());
        let back = Network { internal: true, ..back };
        let mut finch = world.container("finch", "a");
        world.join(&mut finch, &["web", "back"]).unwrap();
        let seen = interface(&web, &finch.networks[0]);
        assert_eq!(seen.gateway, Some(web.gateway));
        assert_eq!(seen.six.unwrap().gateway, web.gateway6);
        assert_eq!((seen.prefix_bits, seen.mtu), (20, web.mtu));
        let other = interface(&back, &finch.networks[1]);
        assert_eq!(other.gateway, None);
        assert_eq!(other.six.unwrap().gateway, None);
    }
}
