//! A network as it is written down, and how one comes from what was asked for and what the host has.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::error::NetworkError;
use super::pools::{self, Taken};
use super::prefix::{Subnet, Subnet6};
use crate::moment::Moment;

/// The network that every container is on unless it is told otherwise.
pub const DEFAULT_NETWORK: &str = "bridge";
/// What a container is on that has none; no network has this name.
pub const NO_NETWORK: &str = "none";
/// Not being on one, but going out by a program that needs no privilege.
pub const USER_NETWORK: &str = "user";
/// Names that mean something else.
const RESERVED: [&str; 6] = [NO_NETWORK, USER_NETWORK, "passt", "host", "default", "container"];
/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// How many digits of a network's id are in its bridge's name: as many as there is room for.
const INTERFACE_DIGITS: usize = 12;
/// A prefix that leaves an address for the gateway and for one container.
const MAX_BITS: u8 = 30;
/// One that leaves room for all of an IPv4 address.
const MAX_BITS6: u8 = 96;
/// The shortest longest packet that IPv4 allows, and the one of IPv6 (RFC 791, RFC 8200).
const MIN_MTU: u16 = 68;
const MIN_MTU6: u16 = 1280;
/// Docker's name for the longest packet.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// A network: a bridge of the host, and the addresses of those on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The version of this document; one that an older hyperrun could not do right by has a higher one.
    pub(super) version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Its name; no other network under this root has it.
    pub name: String,
    /// When it was made.
    pub created: Moment,
    /// The name of its bridge on the host.
    pub interface: String,
    /// Its addresses.
    pub subnet: Subnet,
    /// The bridge's own.
    pub gateway: Ipv4Addr,
    /// The part of the addresses that containers get unless they ask for one; none is all.
    #[serde(default)]
    pub ip_range: Option<Subnet>,
    /// Its IPv6 addresses, if it has any.
    #[serde(default)]
    pub subnet6: Option<Subnet6>,
    /// The bridge's own.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// Whether nothing leads out of it.
    #[serde(default)]
    pub internal: bool,
    /// The longest packet, in bytes.
    pub mtu: u16,
    /// Whether a person has chosen its addresses.
    #[serde(default)]
    pub chosen: bool,
    /// `--label`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What `network create` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// `--subnet`; none is any that is free.
    pub subnet: Option<Subnet>,
    /// `--gateway`; none is the first address.
    pub gateway: Option<Ipv4Addr>,
    /// `--ip-range`.
    pub ip_range: Option<Subnet>,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--subnet` of IPv6; none is one that nobody else has.
    pub subnet6: Option<Subnet6>,
    /// `--gateway` of IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// `--internal`.
    pub internal: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    pub options: BTreeMap<String, String>,
}

/// What a new network depends on beside what was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Its id.
    pub(crate) id: String,
    /// Whether it is the default network of the usual root, whose bridge has a name that people know.
    pub(crate) is_usual: bool,
    /// Addresses that others have.
    pub(crate) taken: Taken,
    /// The longest packet on the way out, in bytes.
    pub(crate) mtu: u16,
}

impl Network {
    /// Decides what a network is.
    pub(crate) fn decide(spec: NetworkSpec, around: &Surroundings) -> Result<Self, NetworkError> {
        check_name(&spec.name)?;
        let subnet = match spec.subnet {
            Some(subnet) => around.taken.check(subnet)?,
            None => pools::pick(&around.taken).ok_or(NetworkError::NoPool)?,
        };
        if subnet.bits() > MAX_BITS {
            return Err(wrong(format!(
                "subnet {subnet} has no room for a gateway and a container"
            )));
        }
        let gateway = gateway_in(subnet, spec.gateway)?;
        check_range(subnet, spec.ip_range)?;
        let subnet6 = match spec.subnet6 {
            Some(subnet) if subnet.bits() > MAX_BITS6 => {
                return Err(wrong(format!(
                    "subnet {subnet} is too small: at most {MAX_BITS6} bits"
                )));
            }
            Some(subnet) => Some(around.taken.check6(subnet)?),
            None => spec.ipv6.then(|| pools::unique_local(&around.id)),
        };
        let gateway6 = gateway6_in(subnet6, spec.gateway6)?;
        let mtu = mtu(&spec.options, subnet6.is_some(), around.mtu)?;
        let interface = match around.is_usual {
            true => "hyperrun0".to_owned(),
            false => format!("hr-{}", &around.id[..INTERFACE_DIGITS]),
        };
        Ok(Self {
            version: super::VERSION,
            id: around.id.clone(),
            name: spec.name,
            created: Moment::now(),
            interface,
            subnet,
            gateway,
            ip_range: spec.ip_range,
            subnet6,
            gateway6,
            internal: spec.internal,
            mtu,
            chosen: spec.subnet.is_some(),
            labels: spec.labels,
            options: spec.options,
        })
    }

    /// The id as a person sees it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Whether it is the one that every container is on unless it is told otherwise.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_NETWORK
    }

    /// The IPv6 address of whoever has this one, if the network has any.
    #[must_use]
    pub fn address6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        self.subnet6?.at(u128::from(address.to_bits()))
    }

    /// What Docker calls the id of a container's place: one that no other has.
    #[must_use]
    pub fn endpoint_id(&self, container: &str) -> String {
        images::Digest::of(format!("{} {container}", self.id).as_bytes()).hex()
    }

    /// The group of the interfaces on its bridge: a number that rules know them by.
    #[must_use]
    pub fn group(&self) -> u32 {
        let digits = self.id.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        // Zero is the group of all that are in none, and ip(8) knows positive numbers only.
        (digits.unwrap_or(0) & 0x7fff_ffff).max(1)
    }
}

fn check_name(name: &str) -> Result<(), NetworkError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !begins || !name.bytes().all(good) || name.len() > MAX_NAME_BYTES {
        let reason = format!(
            "invalid network name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed, at most \
             {MAX_NAME_BYTES}"
        );
        return Err(NetworkError::Name { reason });
    }
    if RESERVED.contains(&name) {
        let reason = format!("operation is not permitted on predefined {name} network");
        return Err(NetworkError::Name { reason });
    }
    Ok(())
}

fn wrong(reason: String) -> NetworkError {
    NetworkError::Address { reason }
}

fn gateway_in(subnet: Subnet, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, NetworkError> {
    let gateway = wanted.or_else(|| subnet.at(1)).expect("it has more than one address");
    if !subnet.contains(gateway) || [subnet.first(), subnet.last()].contains(&gateway) {
        return Err(wrong(format!("no matching subnet for gateway {gateway}")));
    }
    Ok(gateway)
}

fn gateway6_in(
    subnet: Option<Subnet6>,
    wanted: Option<Ipv6Addr>,
) -> Result<Option<Ipv6Addr>, NetworkError> {
    let fits = |gateway| subnet.is_some_and(|it| it.contains(gateway) && gateway != it.first());
    match wanted {
        Some(gateway) if fits(gateway) => Ok(Some(gateway)),
        Some(gateway) => Err(wrong(format!("no matching subnet for gateway {gateway}"))),
        None => Ok(subnet.and_then(|subnet| subnet.at(1))),
    }
}

fn check_range(subnet: Subnet, range: Option<Subnet>) -> Result<(), NetworkError> {
    let within = |it: Subnet| it.bits() >= subnet.bits() && subnet.contains(it.first());
    match range {
        Some(range) if !within(range) => {
            Err(wrong(format!("no matching subnet for range {range}")))
        }
        _ => Ok(()),
    }
}

fn mtu(options: &BTreeMap<String, String>, ipv6: bool, usual: u16) -> Result<u16, NetworkError> {
    let Some(text) = options.get(MTU_OPTION) else { return Ok(usual) };
    let least = if ipv6 { MIN_MTU6 } else { MIN_MTU };
    let mtu = text.parse().ok().filter(|mtu| *mtu >= least);
    mtu.ok_or_else(|| wrong(format!("invalid {MTU_OPTION} {text:?}: it is {least} to 65535")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn around() -> Surroundings {
        let id = "3fa2b1c4".repeat(8);
        Surroundings { id, is_usual: false, taken: Taken::default(), mtu: 1500 }
    }

    pub(crate) fn spec(name: &str) -> NetworkSpec {
        NetworkSpec { name: name.to_owned(), ..NetworkSpec::default() }
    }

    fn subnet<P: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> Option<P> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_network_is_decided_by_what_is_asked_for() {
        let plain = Network::decide(spec("web"), &around()).unwrap();
        assert_eq!(plain.interface, "hr-3fa2b1c43fa2");
        assert_eq!(
            (plain.subnet.to_string(), plain.gateway),
            ("172.16.0.0/20".into(), [172, 16, 0, 1].into())
        );
        assert_eq!((plain.mtu, plain.subnet6, plain.group()), (1500, None, 0x3fa2_b1c4));
        let usual = Surroundings { is_usual: true, ..around() };
        assert_eq!(Network::decide(spec("bridge"), &usual).unwrap().interface, "hyperrun0");
        let asked = NetworkSpec {
            subnet: subnet("192.0.2.0/24"),
            gateway: Some([192, 0, 2, 254].into()),
            ip_range: subnet("192.0.2.128/25"),
            subnet6: subnet("2001:db8::/64"),
            options: [(MTU_OPTION.to_owned(), "1400".to_owned())].into(),
            ..spec("asked")
        };
        let asked = Network::decide(asked, &around()).unwrap();
        assert_eq!((asked.gateway, asked.mtu), ([192, 0, 2, 254].into(), 1400));
        assert_eq!(asked.gateway6, Some("2001:db8::1".parse().unwrap()));
        let six = asked.address6([192, 0, 2, 7].into()).unwrap();
        assert_eq!(six, "2001:db8::c000:207".parse::<Ipv6Addr>().unwrap());
        let local = Network::decide(NetworkSpec { ipv6: true, ..spec("six") }, &around()).unwrap();
        assert_eq!(local.subnet6.unwrap().to_string(), "fd3f:a2b1:c43f::/64");
    }

    #[test]
    fn what_makes_no_network_is_said() {
        let options = |mtu: &str| [(MTU_OPTION.to_owned(), mtu.to_owned())].into();
        for (spec, wanted) in [
            (spec("-web"), "invalid network name (-web)"),
            (spec("a/b"), "invalid network name (a/b)"),
            (spec(""), "invalid network name ()"),
            (spec(&"x".repeat(129)), "invalid network name"),
            (spec("host"), "operation is not permitted on predefined host network"),
            (NetworkSpec { subnet: subnet("192.0.2.0/31"), ..spec("a") }, "has no room"),
            (
                NetworkSpec {
                    subnet: subnet("192.0.2.0/24"),
                    gateway: Some([192, 0, 3, 1].into()),
                    ..spec("a")
                },
                "no matching subnet for gateway 192.0.3.1",
            ),
            (
                NetworkSpec {
                    subnet: subnet("192.0.2.0/24"),
                    ip_range: subnet("192.0.0.0/16"),
                    ..spec("a")
                },
                "no matching subnet for range 192.0.0.0/16",
            ),
            (NetworkSpec { gateway6: Some(Ipv6Addr::LOCALHOST), ..spec("a") }, "for gateway ::1"),
            (NetworkSpec { subnet6: subnet("2001:db8::/112"), ..spec("a") }, "is too small"),
            (NetworkSpec { options: options("67"), ..spec("a") }, "it is 68 to 65535"),
            (NetworkSpec { options: options("1000"), ipv6: true, ..spec("a") }, "it is 1280 to"),
        ] {
            let error = Network::decide(spec, &around()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_document_comes_back_as_it_went() {
        let network = Network::decide(NetworkSpec { ipv6: true, ..spec("a") }, &around()).unwrap();
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
    }
}
