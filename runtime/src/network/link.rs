//! The host's side of a network: its bridge, and the taps of containers on it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::mac::Mac;
use super::netlink::{Netlink, Order};
use super::pools::Taken;
use super::prefix::{Address, Prefix};
use super::record::Network;

/// The longest packet where no way leads out, in bytes.
const USUAL_MTU: u16 = 1500;
/// What opens a way through this host, and what it still heeds then as it did before
/// (Documentation/networking/ip-sysctl.rst).
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARD6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const INTERFACES6: &str = "/proc/sys/net/ipv6/conf";

/// What the host's routes tell.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Addresses that are not free.
    pub(super) taken: Taken,
    /// The longest packet on the way out, in bytes.
    pub(super) mtu: u16,
}

/// Looks at the host's routes.
pub(super) fn routes() -> io::Result<Routes> {
    let netlink = Netlink::open()?;
    let mut routes = Routes { mtu: USUAL_MTU, ..Routes::default() };
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        for answer in netlink.dump(RouteNetlinkMessage::GetRoute(question))? {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                routes.add(&route, &netlink);
            }
        }
    }
    Ok(routes)
}

/// An address of the host for others, if it has any.
pub(super) fn own_address() -> io::Result<Option<Ipv4Addr>> {
    let mut question = AddressMessage::default();
    question.header.family = AddressFamily::Inet;
    let answers = Netlink::open()?.dump(RouteNetlinkMessage::GetAddress(question))?;
    let addresses = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(one) if one.header.scope == AddressScope::Universe => {
            one.attributes.into_iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(address),
                _ => None,
            })
        }
        _ => None,
    });
    Ok(addresses.min())
}

impl Routes {
    fn add(&mut self, route: &RouteMessage, netlink: &Netlink) {
        let bits = route.header.destination_prefix_length;
        let interface = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => netlink.name(*index).ok(),
            _ => None,
        });
        let destination = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => Some(address),
            _ => None,
        });
        let holder = || interface.clone().unwrap_or_else(|| "a route".to_owned());
        match destination {
            Some(RouteAddress::Inet(address)) => {
                self.taken.subnets.extend(taken(*address, bits).map(|it| (it, holder())));
            }
            Some(RouteAddress::Inet6(address)) => {
                self.taken.subnets6.extend(taken(*address, bits).map(|it| (it, holder())));
            }
            // The way to everywhere else.
            None if route.header.address_family == AddressFamily::Inet => {
                self.mtu = interface.and_then(|name| mtu_of(&name)).unwrap_or(self.mtu);
            }
            _ => {}
        }
    }
}

/// The network behind a route; one that is no more than the way to everywhere takes nothing.
fn taken<A: Address>(address: A, bits: u8) -> Option<Prefix<A>> {
    (bits > 0).then(|| Prefix::around(address, bits)).flatten()
}

fn mtu_of(interface: &str) -> Option<u16> {
    fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
}

/// The number of a network's bridge, if it is there.
pub(super) fn bridge(network: &Network) -> io::Result<Option<u32>> {
    Netlink::open()?.index(&network.interface)
}

/// Makes a network's bridge, or what of it is missing, and opens the ways out.
pub(super) fn make_bridge(network: &Network) -> io::Result<()> {
    let netlink = Netlink::open()?;
    match netlink.carry_out([new_bridge(network)]) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    settle6(network)?;
    let index = netlink.index(&network.interface)?.ok_or(io::ErrorKind::NotFound)?;
    let mut orders = vec![up(index), address(index, network.gateway.into(), network.subnet.bits())];
    if let (Some(gateway), Some(subnet)) = (network.gateway6, network.subnet6) {
        orders.push(address(index, gateway.into(), subnet.bits()));
    }
    netlink.carry_out(orders)?;
    if network.internal { Ok(()) } else { forward(network) }
}

/// Takes an interface away, if it is there.
pub(super) fn remove(interface: &str) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let Some(index) = netlink.index(interface)? else { return Ok(()) };
    let mut message = LinkMessage::default();
    message.header.index = index;
    netlink.carry_out([Order { message: RouteNetlinkMessage::DelLink(message), flags: 0 }])
}

/// Puts a tap on a network's bridge, where it can be used by this hardware address alone, and brings it
/// up.
pub(super) fn plug(network: &Network, bridge: u32, tap: &str, mac: Mac) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let index = netlink.index(tap)?.ok_or(io::ErrorKind::NotFound)?;
    let mut member = LinkMessage::default();
    member.header.index = index;
    member.attributes = vec![
        LinkAttribute::Mtu(network.mtu.into()),
        LinkAttribute::Group(network.group()),
        LinkAttribute::Controller(bridge),
    ];
    let member = Order { message: RouteNetlinkMessage::SetLink(member), flags: 0 };
    netlink.carry_out([member, port(index), known(index, mac), up(index)])
}

/// A bridge whose hardware address stays, that knows no spanning tree and no groups.
fn new_bridge(network: &Network) -> Order {
    let bridge = vec![
        InfoBridge::ForwardDelay(0),
        InfoBridge::StpState(BridgeStpState::Disabled),
        InfoBridge::MulticastSnooping(false),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(network.interface.clone()),
        LinkAttribute::Mtu(network.mtu.into()),
        LinkAttribute::Address(Mac::of(network.gateway).0.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(bridge)),
        ]),
    ];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Order { message: RouteNetlinkMessage::NewLink(message), flags }
}

/// A port that learns nothing, gets nothing that is for others, and lets only known addresses in
/// (bridge(8), `locked`; kernels before 5.16 leave that out).
fn port(index: u32) -> Order {
    let settings = vec![
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::Locked(true),
    ];
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(settings)),
    ])];
    Order { message: RouteNetlinkMessage::NewLink(message), flags: 0 }
}

/// The address that is behind a port, which it may have had until now behind another.
fn known(index: u32, mac: Mac) -> Order {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    Order { message: RouteNetlinkMessage::NewNeighbour(message), flags }
}

fn up(index: u32) -> Order {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Order { message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

fn address(index: u32, address: IpAddr, bits: u8) -> Order {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = bits;
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if let IpAddr::V4(address) = address {
        message.attributes.push(AddressAttribute::Broadcast(broadcast(address, bits)));
    } else {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    Order { message: RouteNetlinkMessage::NewAddress(message), flags }
}

fn broadcast(address: Ipv4Addr, bits: u8) -> Ipv4Addr {
    Prefix::around(address, bits).map_or(address, Prefix::last)
}

/// A bridge has IPv6 only where its network has, and takes nothing of it from containers.
fn settle6(network: &Network) -> io::Result<()> {
    let folder = format!("{INTERFACES6}/{}", network.interface);
    if fs::metadata(&folder).is_err() && network.subnet6.is_none() {
        return Ok(());
    }
    let off = if network.subnet6.is_some() { "0" } else { "1" };
    for (name, value) in [("disable_ipv6", off), ("accept_ra", "0"), ("autoconf", "0")] {
        fs::write(format!("{folder}/{name}"), value)?;
    }
    Ok(())
}

/// Lets packets through this host.
fn forward(network: &Network) -> io::Result<()> {
    set(FORWARD, "1")?;
    if network.subnet6.is_none() || fs::read_to_string(FORWARD6)?.trim() != "0" {
        return Ok(());
    }
    // A host that forwards does not heed routers any more unless it is told to.
    for entry in fs::read_dir(INTERFACES6)? {
        let path = entry?.path().join("accept_ra");
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
            fs::write(&path, "2")?;
        }
    }
    fs::write(FORWARD6, "1")
}

fn set(path: &str, value: &str) -> io::Result<()> {
    if fs::read_to_string(path)?.trim() == value { Ok(()) } else { fs::write(path, value) }
}
