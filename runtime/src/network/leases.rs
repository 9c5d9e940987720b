//! Who has which address of a network: a file for each address that is taken.
//!
//! A lease is made with its container and lasts until that is removed, so that a container which is
//! started again is where it was. One whose container's folder is gone is as good as none.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::NetworkError;
use super::mac::Mac;
use super::record::Network;
use crate::containers::files::{Durability, create_private, file_error, write};
use crate::error::Error;

/// An address of a network, and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The container's id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// What else it is called on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Its interface's hardware address.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if the network has any.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
    /// Who is asked for it about names that nobody here has; none are the host's servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

impl Lease {
    /// Whether a person has chosen something that else would follow from the address.
    pub(super) fn is_chosen(&self, network: &Network) -> bool {
        self.mac != Mac::of(self.address) || self.address6 != network.address6(self.address)
    }
}

/// Who wants an address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applicant<'a> {
    /// [`Lease::container`].
    pub(crate) container: &'a str,
    /// [`Lease::name`].
    pub(crate) name: &'a str,
    /// [`Lease::hostname`].
    pub(crate) hostname: &'a str,
    /// [`Lease::aliases`].
    pub(crate) aliases: &'a [String],
    /// [`Lease::dns`].
    pub(crate) dns: &'a [IpAddr],
    /// The one that it must be; none is any.
    pub(crate) address: Option<Ipv4Addr>,
    /// The same of IPv6; none follows from the other.
    pub(crate) address6: Option<Ipv6Addr>,
    /// The same of the hardware; none follows from the address.
    pub(crate) mac: Option<Mac>,
}

/// The leases of one network.
pub(super) struct Leases<'a> {
    pub(super) network: &'a Network,
    /// Where they lie.
    pub(super) folder: PathBuf,
    /// Where containers lie.
    pub(super) containers: &'a Path,
}

impl Leases<'_> {
    /// Those that are in force, by their addresses. What cannot be read is as good as none: a container's
    /// record has what it needs.
    pub(super) fn list(&self) -> Result<Vec<Lease>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(file_error("read", &self.folder))?,
        };
        let mut leases = Vec::new();
        for entry in entries {
            let name = entry.map_err(file_error("read", &self.folder))?.file_name();
            let address = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            leases.extend(address.and_then(|address| self.holder(address)));
        }
        leases.sort_by_key(|lease| lease.address);
        Ok(leases)
    }

    /// Who has this address.
    pub(super) fn holder(&self, address: Ipv4Addr) -> Option<Lease> {
        let lease: Lease = serde_json::from_slice(&fs::read(self.path(address)).ok()?).ok()?;
        let is_one = is_id(&lease.container) && lease.address == address;
        (is_one && self.containers.join(&lease.container).is_dir()).then_some(lease)
    }

    /// Gives somebody an address, the one that they have already if they have one. Only for whoever has
    /// locked the networks.
    pub(super) fn grant(&self, applicant: &Applicant<'_>) -> Result<Lease, Error> {
        let address = match applicant.address {
            Some(address) => self.asked(address, applicant)?,
            None => self.free(applicant)?,
        };
        let network = self.network;
        let mac = applicant.mac.unwrap_or_else(|| Mac::of(address));
        let address6 = match applicant.address6 {
            Some(wanted) => Some(self.asked6(wanted)?),
            None => network.address6(address),
        };
        self.check_derived(address, address6, mac)?;
        if applicant.address6.is_some() || applicant.mac.is_some() {
            self.check_shared(applicant, address6, mac)?;
        }
        let lease = Lease {
            container: applicant.container.to_owned(),
            name: applicant.name.to_owned(),
            hostname: applicant.hostname.to_owned(),
            aliases: applicant.aliases.to_vec(),
            mac,
            address,
            address6,
            dns: applicant.dns.to_vec(),
        };
        self.put(&lease)?;
        Ok(lease)
    }

    /// Writes a lease down. After a crash of the host it is written again from the container's record.
    pub(super) fn put(&self, lease: &Lease) -> Result<(), Error> {
        create_private(&self.folder)?;
        let text = serde_json::to_vec(lease).expect("words and numbers are JSON");
        write(&self.folder, &format!("{}.json", lease.address), &text, Durability::Fleeting)
    }

    /// Takes a container's address back, if it still has it.
    pub(super) fn end(&self, container: &str, address: Ipv4Addr) -> Result<(), Error> {
        let path = self.path(address);
        let text = fs::read(&path).unwrap_or_default();
        let lease: Option<Lease> = serde_json::from_slice(&text).ok();
        if lease.is_none_or(|lease| lease.container != container) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.folder.join(format!("{address}.json"))
    }

    /// Whether somebody else has an address.
    fn holder_beside(&self, address: Ipv4Addr, applicant: &Applicant<'_>) -> Option<Lease> {
        self.holder(address).filter(|lease| lease.container != applicant.container)
    }

    fn asked(&self, address: Ipv4Addr, applicant: &Applicant<'_>) -> Result<Ipv4Addr, Error> {
        let subnet = self.network.subnet;
        if !subnet.contains(address) || [subnet.first(), subnet.last()].contains(&address) {
            return Err(outside(address.into()));
        }
        if address == self.network.gateway {
            return Err(in_use(address.into(), "the network's gateway".to_owned()));
        }
        match self.holder_beside(address, applicant) {
            Some(holder) => Err(in_use(address.into(), format!("container {}", holder.name))),
            None => Ok(address),
        }
    }

    fn asked6(&self, address: Ipv6Addr) -> Result<Ipv6Addr, Error> {
        let subnet = self.network.subnet6.filter(|subnet| subnet.contains(address));
        match subnet {
            None => Err(outside(address.into())),
            Some(subnet) if address == subnet.first() || Some(address) == self.network.gateway6 => {
                Err(in_use(address.into(), "the network's gateway".to_owned()))
            }
            Some(_) => Ok(address),
        }
    }

    /// What follows from an address is only for whoever has that.
    fn check_derived(
        &self,
        address: Ipv4Addr,
        address6: Option<Ipv6Addr>,
        mac: Mac,
    ) -> Result<(), Error> {
        let network = self.network;
        let [first, second, end @ ..] = mac.0;
        let owner = Ipv4Addr::from(end);
        if [first, second] == [0x02, 0x42] && owner != address && network.subnet.contains(owner) {
            let reason = format!("hardware address {mac} is that of {owner}");
            return Err(NetworkError::Address { reason }.into());
        }
        let Some(six) = address6 else { return Ok(()) };
        let [.., a, b, c, d] = six.octets();
        let owner = Ipv4Addr::from([a, b, c, d]);
        let is_derived = network.address6(owner) == Some(six) && network.subnet.contains(owner);
        if is_derived && owner != address {
            return Err(in_use(six.into(), format!("whoever has {owner}")));
        }
        Ok(())
    }

    /// What a container has asked for itself nobody else has.
    fn check_shared(
        &self,
        applicant: &Applicant<'_>,
        address6: Option<Ipv6Addr>,
        mac: Mac,
    ) -> Result<(), Error> {
        for lease in self.list()?.into_iter().filter(|it| it.container != applicant.container) {
            if let Some(address) = address6.filter(|address| lease.address6 == Some(*address)) {
                return Err(in_use(address.into(), format!("container {}", lease.name)));
            }
            if lease.mac == mac {
                let reason =
                    format!("hardware address {mac} is in use by container {}", lease.name);
                return Err(NetworkError::Address { reason }.into());
            }
        }
        Ok(())
    }

    /// An address that follows from the container's id, or the next one that is free.
    fn free(&self, applicant: &Applicant<'_>) -> Result<Ipv4Addr, Error> {
        let network = self.network;
        let range = network.ip_range.unwrap_or(network.subnet);
        let count = range.last().to_bits() - range.first().to_bits() + u32::from(range.bits() > 0);
        let digits = applicant.container.get(..8).and_then(|it| u32::from_str_radix(it, 16).ok());
        let first = digits.unwrap_or(0) % count.max(1);
        let reserved = [network.subnet.first(), network.subnet.last(), network.gateway];
        let is_free = |address: &Ipv4Addr| {
            !reserved.contains(address) && self.holder_beside(*address, applicant).is_none()
        };
        let candidates = (0..count).filter_map(|step| {
            let index = (u64::from(first) + u64::from(step)) % u64::from(count);
            range.at(u128::from(index))
        });
        let exhausted = || NetworkError::Exhausted { network: network.name.clone() };
        let mut free = candidates.filter(is_free);
        Ok(free.next().ok_or_else(exhausted)?)
    }
}

fn is_id(words: &str) -> bool {
    words.len() == 64 && words.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn outside(address: IpAddr) -> Error {
    let reason = format!("no configured subnet or ip-range contain the IP address {address}");
    NetworkError::Address { reason }.into()
}

fn in_use(address: IpAddr, holder: String) -> Error {
    NetworkError::AddressInUse { address, holder }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::NetworkSpec;
    use crate::network::record::tests::{around, spec};

    struct World {
        folder: tempfile::TempDir,
        network: Network,
    }

    impl World {
        fn new(subnet: &str) -> Self {
            let spec = NetworkSpec { subnet: subnet.parse().ok(), ipv6: true, ..spec("web") };
            let network = Network::decide(spec, &around()).unwrap();
            Self { folder: tempfile::tempdir().unwrap(), network }
        }

        fn leases(&self) -> Leases<'_> {
            let folder = self.folder.path().join("leases");
            Leases { network: &self.network, folder, containers: self.folder.path() }
        }

        /// The address that a new container gets.
        fn grant(&self, applicant: &Applicant<'_>) -> Result<Lease, Error> {
            fs::create_dir_all(self.folder.path().join(applicant.container)).unwrap();
            self.leases().grant(applicant)
        }
    }

    fn id(first: u32) -> String {
        format!("{first:08x}").repeat(8)
    }

    fn by<'a>(container: &'a str) -> Applicant<'a> {
        Applicant { container, name: "finch", ..Applicant::default() }
    }

    #[test]
    fn an_address_follows_from_the_id_and_stays() {
        let world = World::new("192.0.2.0/24");
        let one = world.grant(&by(&id(7))).unwrap();
        assert_eq!(one.address, Ipv4Addr::from([192, 0, 2, 7]));
        assert_eq!(one.mac.to_string(), "02:42:c0:00:02:07");
        assert_eq!(one.address6, world.network.address6(one.address));
        assert_eq!(world.grant(&by(&id(7))).unwrap(), one);
        // The same place is the next one's, and no one's is the gateway or the network itself.
        for (first, last) in [(256 + 7, 8), (0, 2), (1, 3), (255, 4)] {
            assert_eq!(world.grant(&by(&id(first))).unwrap().address.octets()[3], last, "{first}");
        }
        assert_eq!(world.leases().list().unwrap().len(), 5);
    }

    #[test]
    fn a_container_that_is_gone_has_no_address() {
        let world = World::new("192.0.2.0/24");
        world.grant(&by(&id(7))).unwrap();
        fs::remove_dir(world.folder.path().join(id(7))).unwrap();
        assert_eq!(world.leases().list().unwrap(), []);
        let other = world.grant(&by(&id(256 + 7))).unwrap();
        assert_eq!(other.address.octets()[3], 7);
        world.leases().end(&id(7), other.address).unwrap();
        assert_eq!(world.leases().list().unwrap(), std::slice::from_ref(&other));
        world.leases().end(&other.container, other.address).unwrap();
        world.leases().end(&other.container, other.address).unwrap();
        assert_eq!(world.leases().list().unwrap(), []);
    }

    #[test]
    fn a_full_network_says_so() {
        let world = World::new("192.0.2.0/29");
        let addresses: Vec<u8> =
            (0..5).map(|index| world.grant(&by(&id(index))).unwrap().address.octets()[3]).collect();
        assert_eq!(addresses, [2, 3, 4, 5, 6]);
        let error = world.grant(&by(&id(9))).unwrap_err();
        assert!(error.to_string().starts_with("no available IPv4 addresses"), "{error}");
    }

    #[test]
    fn what_is_asked_for_is_given_or_refused() {
        let world = World::new("192.0.2.0/24");
        let (first, second) = (id(1), id(2));
        let mac: Mac = "02:00:00:00:00:01".parse().unwrap();
        let six = world.network.subnet6.unwrap().at(0x99).unwrap();
        let wish = |container, last: u8| Applicant {
            address: Some([192, 0, 2, last].into()),
            ..by(container)
        };
        let all = Applicant { mac: Some(mac), address6: Some(six), ..wish(&first, 9) };
        let lease = world.grant(&all).unwrap();
        assert_eq!((lease.address.octets()[3], lease.mac, lease.address6), (9, mac, Some(six)));
        for (wish, wanted) in [
            (wish(&second, 9), "Address already in use: 192.0.2.9"),
            (wish(&second, 1), "Address already in use: 192.0.2.1"),
            (
                wish(&second, 255),
                "no configured subnet or ip-range contain the IP address 192.0.2.255",
            ),
            (Applicant { address: Some([10, 0, 0, 1].into()), ..by(&second) }, "contain the IP"),
            (Applicant { address6: Some(six), ..by(&second) }, "Address already in use: fd"),
            (Applicant { address6: world.network.gateway6, ..by(&second) }, "Address already in"),
            (
                Applicant { address6: "::1".parse().ok(), ..by(&second) },
                "contain the IP address ::1",
            ),
            (Applicant { mac: Some(mac), ..by(&second) }, "is in use by container finch"),
            (
                Applicant { mac: "02:42:c0:00:02:63".parse().ok(), ..by(&second) },
                "hardware address 02:42:c0:00:02:63 is that of 192.0.2.99",
            ),
            (
                Applicant {
                    address6: world.network.address6([192, 0, 2, 99].into()),
                    ..by(&second)
                },
                "Address already in use: fd",
            ),
        ] {
            let error = world.grant(&wish).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn files_that_are_no_leases_are_no_ones() {
        let world = World::new("192.0.2.0/24");
        let lease = world.grant(&by(&id(7))).unwrap();
        let folder = world.folder.path().join("leases");
        let moved = serde_json::to_vec(&lease).unwrap();
        let outside =
            serde_json::to_vec(&Lease { container: "..".into(), ..lease.clone() }).unwrap();
        for (name, text) in [
            ("192.0.2.8.json", &b""[..]),
            ("192.0.2.9.json", b"{}"),
            ("192.0.2.10.json", &moved),
            ("192.0.2.11.json", &outside),
            ("x", b"x"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        assert_eq!(world.leases().list().unwrap(), [lease]);
        assert_eq!(world.grant(&by(&id(8))).unwrap().address.octets()[3], 8);
    }
}
