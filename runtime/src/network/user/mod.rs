//! A network without privilege: passt, a program of its own, carries a machine's frames over sockets of the
//! host (passt(1)). What the container sees of it is decided here; `passt` is the program at work.

pub(crate) mod passt;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::net::UnixStream;

use protocol::{Interface, Interface6};
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};

use self::passt::Errand;
use super::link;
use super::mac::Mac;
use crate::options::Publication;

/// What a container has in a network that nobody else is in.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// The bits that all addresses of that network have in common.
pub const PREFIX_BITS: u8 = 24;
/// Where all leads through.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Who asks a name server of the host that containers cannot reach.
const FORWARDER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// The same of IPv6, in a local network that was drawn once (RFC 4193).
const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd5c, 0x93d1, 0x7a0e, 0, 0, 0, 0, 0x100);
const PREFIX6_BITS: u8 = 64;
const FORWARDER6: Ipv6Addr = Ipv6Addr::new(0xfd5c, 0x93d1, 0x7a0e, 0, 0, 0, 0, 3);
/// Of the link alone: passt takes it for the sender of what comes from the host itself.
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// The longest packet where it can be chosen: passt takes no longer ones.
const LONGEST: u32 = 65_520;
/// The longest where it cannot.
const USUAL: u32 = 1500;
/// passt sends so many frames at once. What of them finds no room in the socket is lost, and is sent again two
/// seconds later.
const BATCH: u32 = 128;
/// More than any host gives.
const SOCKET_BYTES: usize = 64 << 20;

/// The host's interfaces with addresses of IPv6, and how one of the link alone is told
/// (net/ipv6/addrconf.c).
const INTERFACES6: &str = "/proc/net/if_inet6";
const OF_THE_LINK: &str = "20";
/// Somewhere outside that nothing is sent to (RFC 5737).
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// A way out by passt, which is not at work yet.
#[derive(Debug)]
pub(crate) struct UserWay {
    /// The machine's end.
    pub(crate) machine: UnixStream,
    /// What the container sees.
    pub(crate) interface: Interface,
    /// Where it asks for names.
    pub(crate) resolvers: Vec<IpAddr>,
    /// Where it reaches the host.
    pub(crate) host: Option<IpAddr>,
    /// What passt is to do.
    pub(crate) errand: Errand,
}

impl UserWay {
    /// Makes one for a container whose name servers are these.
    pub(crate) fn open(resolv_conf: &str) -> io::Result<Self> {
        let (machine, passt) = UnixStream::pair()?;
        for end in [&machine, &passt] {
            // As many as the host gives.
            set_socket_send_buffer_size(end, SOCKET_BYTES)?;
        }
        let mtu = longest_packet(socket_send_buffer_size(&passt)?);
        let six = linked_interface();
        let servers = Servers::read(resolv_conf, six.is_some());
        let interface = Interface {
            mac: Mac::of(ADDRESS).0,
            address: ADDRESS,
            prefix_bits: PREFIX_BITS,
            gateway: Some(GATEWAY),
            six: six.is_some().then_some(Interface6 {
                address: ADDRESS6,
                prefix_bits: PREFIX6_BITS,
                gateway: Some(GATEWAY6),
            }),
            mtu,
            offloads: false,
        };
        let Servers { seen, forwarders } = servers;
        let errand = Errand { socket: passt, six, forwarders };
        Ok(Self { machine, interface, resolvers: seen, host: own_address(), errand })
    }
}

/// Whether containers have IPv6 by it.
#[must_use]
pub fn speaks_six() -> bool {
    linked_interface().is_some()
}

/// What is to be published, where the host can: without IPv6, all addresses are those of IPv4.
pub(crate) fn publications(wanted: Vec<Publication>) -> Vec<Publication> {
    if speaks_six() {
        return wanted;
    }
    let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let here = |one: Publication| Publication { address: one.address.or(Some(all)), ..one };
    wanted.into_iter().map(here).collect()
}

/// The longest packet of which a batch fits into a socket.
fn longest_packet(socket_bytes: usize) -> u16 {
    let fits = u32::try_from(socket_bytes).unwrap_or(u32::MAX) / BATCH;
    let bytes = fits.clamp(USUAL, LONGEST);
    u16::try_from(bytes).expect("the longest fits")
}

/// An interface of the host that speaks IPv6; which one is the same to passt.
fn linked_interface() -> Option<String> {
    linked(&fs::read_to_string(INTERFACES6).ok()?)
}

fn linked(interfaces: &str) -> Option<String> {
    interfaces.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(3);
        let is_it = words.next()? == OF_THE_LINK;
        words.nth(1).filter(|_| is_it).map(str::to_owned)
    })
}

/// Where the host is for others: at what it sends from, or else at any address that is not its loopback's.
fn own_address() -> Option<IpAddr> {
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(ELSEWHERE)?;
        socket.local_addr()
    });
    match sender {
        Ok(address) => Some(address.ip()),
        Err(_) => link::own_address().ok().flatten().map(IpAddr::V4),
    }
}

/// A container's name servers.
#[derive(Debug, PartialEq, Eq)]
struct Servers {
    /// As it sees them.
    seen: Vec<IpAddr>,
    /// Those of them where passt asks one that only the host reaches.
    forwarders: Vec<IpAddr>,
}

impl Servers {
    fn read(resolv_conf: &str, six: bool) -> Self {
        let servers = resolv_conf.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let server = words.next().filter(|word| *word == "nameserver").and(words.next())?;
            server.parse::<IpAddr>().ok()
        });
        let mut found = Self { seen: Vec::new(), forwarders: Vec::new() };
        for server in servers.filter(|server| six || server.is_ipv4()) {
            let forwarder = if server.is_ipv4() { FORWARDER.into() } else { FORWARDER6.into() };
            let seen = if server.is_loopback() { forwarder } else { server };
            if found.seen.contains(&seen) {
                continue;
            }
            found.seen.push(seen);
            found.forwarders.extend(server.is_loopback().then_some(forwarder));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_the_hosts_loopback_is_asked_by_passt() {
        let read = |text: &str, six| {
            let Servers { seen, forwarders } = Servers::read(text, six);
            let words = |all: Vec<IpAddr>| {
                all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            };
            (words(seen), words(forwarders))
        };
        let own = "search example\nnameserver 127.0.0.53\nnameserver 127.0.0.1\n";
        assert_eq!(read(own, true), ("10.0.2.3".into(), "10.0.2.3".into()));
        let mixed = "nameserver 192.0.2.1\nnameserver ::1\nnameserver 2001:db8::1\n";
        assert_eq!(
            read(mixed, true),
            ("192.0.2.1 fd5c:93d1:7a0e::3 2001:db8::1".into(), "fd5c:93d1:7a0e::3".into())
        );
        assert_eq!(read(mixed, false), ("192.0.2.1".into(), String::new()));
        let nothing =
            "# nameserver 192.0.2.1\nnameserver\nnameserver fe80::1%eth0\noptions rotate\n";
        assert_eq!(read(nothing, true), (String::new(), String::new()));
    }

    #[test]
    fn packets_are_as_long_as_a_batch_of_them_fits() {
        for (socket, wanted) in
            [(0, 1500), (212_992, 1664), (425_984, 3328), (8 << 20, 65_520), (1 << 40, 65_520)]
        {
            assert_eq!(longest_packet(socket), wanted, "{socket}");
        }
    }

    #[test]
    fn an_interface_with_an_address_of_its_link_speaks_ipv6() {
        let lo = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let far = "20010db8000000000000000000000001 02 40 00 80     eth0\n";
        let near = "fe80000000000000008a66fffe0680c9 03 40 20 80     eth1\n";
        assert_eq!(linked(&format!("{lo}{far}{near}")), Some("eth1".to_owned()));
        assert_eq!(linked(&format!("{lo}{far}")), None);
        assert_eq!(linked("20 20 20 20"), None);
    }

    #[test]
    fn a_way_has_two_ends() {
        let way = UserWay::open("nameserver 127.0.0.53\n").unwrap();
        assert_eq!((way.interface.address, way.interface.offloads), (ADDRESS, false));
        assert!(way.interface.mtu >= 1500);
        assert_eq!(way.resolvers, [IpAddr::V4(FORWARDER)]);
        assert_eq!(way.errand.forwarders, way.resolvers);
        assert!(way.host.is_none_or(|host| !host.is_loopback()));
    }
}
