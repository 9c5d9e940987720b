//! The firewall's rules of a network, as `nft` reads them: two tables of its own, which are the same for
//! all containers on it, so that a start changes none.
//!
//! What a container may send is told by its hardware address, which the bridge has tied to its port: all
//! but the first two bytes of it are the IPv4 address, and the end of the IPv6 one. Rules cannot
//! compare two parts of a packet. They look both up, byte for byte, in a set of pairs of equal bytes.

use std::fmt::Write;
use std::net::Ipv6Addr;

use super::leases::Lease;
use super::mac::Mac;
use super::record::Network;

/// Where an Ethernet header has the bytes of an IPv4 address in a source address, in bytes.
const MAC_BYTES: [usize; 4] = [8, 9, 10, 11];

/// An address in a packet that must be the sender's own.
struct Place {
    /// The rules' word for the header, and where in it the four bytes of the IPv4 address are.
    header: &'static str,
    bytes: [usize; 4],
}

/// The source of an IPv4 packet (RFC 791, 3.1).
const SOURCE4: Place = Place { header: "nh", bytes: [12, 13, 14, 15] };
/// The sender's addresses in ARP (RFC 826).
const SENDER: Place = Place { header: "nh", bytes: [14, 15, 16, 17] };
const SENDER_MAC: Place = Place { header: "nh", bytes: [10, 11, 12, 13] };
/// The end of the source of an IPv6 packet (RFC 8200, 3), and one that was made of a hardware address
/// (RFC 4291, appendix A).
const SOURCE6: Place = Place { header: "nh", bytes: [20, 21, 22, 23] };
const LOCAL6: Place = Place { header: "nh", bytes: [18, 21, 22, 23] };
/// The same in what a neighbour says it has (RFC 4861, 4.4). Older `nft` have no word for it.
const TARGET6: Place = Place { header: "th", bytes: [20, 21, 22, 23] };
const LOCAL_TARGET6: Place = Place { header: "th", bytes: [18, 21, 22, 23] };

/// All rules of a network, in the place of those that were there.
pub(super) fn ruleset(network: &Network, leases: &[Lease]) -> String {
    let mut text = removal(&network.interface);
    text.push_str(&bridge_table(network, leases));
    text.push_str(&host_table(network));
    text
}

/// Takes the tables of a network away, whether they are there or not.
pub(super) fn removal(name: &str) -> String {
    let mut text = String::new();
    for family in ["bridge", "inet"] {
        let table = format!("{family} {name}");
        text.push_str(&format!("table {table} {{ }}\ndelete table {table}\n"));
    }
    text
}

/// What containers may send.
fn bridge_table(network: &Network, leases: &[Lease]) -> String {
    let Network { interface, subnet, .. } = network;
    let (mac, mac_mask) = (Mac::of(subnet.first()), mac_mask(subnet.bits()));
    let derived = format!("ether saddr & {mac_mask} == {mac}");
    let arp = equal(network, &SENDER);
    let arp_mac = equal(network, &SENDER_MAC);
    let arp_own = format!("{derived} arp saddr ether & {mac_mask} == {mac} {arp_mac}");
    format!(
        "table bridge {interface} {{\n\
         set same {{ typeof @ll,64,8 . @nh,96,8; elements = {{ {} }} }}\n\
         {}\
         chain prerouting {{\n\
         type filter hook prerouting priority -300; policy accept;\n\
         meta iifgroup {} jump sent\n\
         }}\n\
         chain sent {{\n\
         ether type arp goto sent_arp\n\
         ether type ip goto sent_ip\n\
         ether type ip6 goto sent_ip6\n\
         drop\n\
         }}\n\
         chain sent_arp {{\n\
         ether saddr . arp saddr ether . arp saddr ip @chosen_arp accept\n\
         arp htype 1 arp hlen 6 arp plen 4 {arp_own} arp saddr ip {subnet} {arp} accept\n\
         arp htype 1 arp hlen 6 arp plen 4 {arp_own} arp saddr ip 0.0.0.0 accept\n\
         drop\n\
         }}\n\
         chain sent_ip {{\n\
         ether saddr . ip saddr @chosen accept\n\
         {derived} ip saddr {subnet} {} accept\n\
         drop\n\
         }}\n\
         chain sent_ip6 {{\n{}drop\n}}\n\
         }}\n",
        pairs(),
        chosen(network, leases),
        network.group(),
        equal(network, &SOURCE4),
        rules6(network, &derived),
    )
}

/// What containers may send of IPv6: where the network has none, nothing.
fn rules6(network: &Network, derived: &str) -> String {
    let subnet = network.subnet;
    let bits = subnet.bits();
    let Some(global) = network.address6(subnet.first()) else { return String::new() };
    let global = format!("& {} == {global}", global_mask(bits));
    let local = format!("& {} == {}", local_mask(bits), local_of(Mac::of(subnet.first())));
    let [source, local_source] = [SOURCE6, LOCAL6].map(|place| equal(network, &place));
    let [target, local_target] = [TARGET6, LOCAL_TARGET6].map(|place| equal_from(0, &place));
    // The first twelve bytes of the one, and of the other the first ten and two in the middle.
    let head = network.subnet6.map_or(0, |subnet| subnet.first().to_bits() >> 32);
    let local_head = local_of(Mac::of(subnet.first())).to_bits() >> 48;
    format!(
        "icmpv6 type {{ nd-router-advert, nd-redirect }} drop\n\
         icmpv6 type nd-neighbor-advert jump advertised\n\
         ip6 saddr :: icmpv6 type {{ nd-neighbor-solicit, mld-listener-report, \
         mld2-listener-report }} accept\n\
         ether saddr . ip6 saddr @chosen6 accept\n\
         {derived} ip6 saddr {global} {source} accept\n\
         {derived} ip6 saddr {local} {local_source} accept\n\
         drop\n\
         }}\n\
         chain advertised {{\n\
         ether saddr . @th,64,128 @chosen_target return\n\
         {derived} @th,64,96 {head:#x} {target} return\n\
         {derived} @th,64,80 {local_head:#x} @th,152,16 0xfffe {local_target} return\n"
    )
}

/// What goes through the host, and out.
fn host_table(network: &Network) -> String {
    let Network { interface, subnet, gateway, .. } = network;
    let out = if network.internal { "drop" } else { "accept" };
    let mut text = format!(
        "table inet {interface} {{\n\
         chain input {{\n\
         type filter hook input priority filter; policy accept;\n\
         ip daddr {gateway} iifname != {{ \"lo\", \"{interface}\" }} drop\n"
    );
    if let Some(gateway) = network.gateway6 {
        let _ = writeln!(text, "ip6 daddr {gateway} iifname != {{ \"lo\", \"{interface}\" }} drop");
    }
    let _ = write!(
        text,
        "}}\n\
         chain forward {{\n\
         type filter hook forward priority filter; policy accept;\n\
         iifname \"{interface}\" oifname \"{interface}\" accept\n\
         iifname \"{interface}\" {out}\n\
         oifname \"{interface}\" ct state established,related accept\n\
         oifname \"{interface}\" ct status dnat accept\n\
         oifname \"{interface}\" drop\n\
         }}\n"
    );
    if !network.internal {
        let _ = write!(
            text,
            "chain postrouting {{\n\
             type nat hook postrouting priority srcnat; policy accept;\n\
             ip saddr {subnet} oifname != \"{interface}\" masquerade\n"
        );
        if let Some(subnet) = network.subnet6 {
            let _ = writeln!(text, "ip6 saddr {subnet} oifname != \"{interface}\" masquerade");
        }
        text.push_str("}\n");
    }
    text + "}\n"
}

/// Every byte beside itself.
fn pairs() -> String {
    let pairs: Vec<_> = (0..=255).map(|byte| format!("{byte} . {byte}")).collect();
    pairs.join(", ")
}

/// That the sender's hardware address has the same bytes as what stands in a place, as far as they are
/// not the network's own.
fn equal(network: &Network, place: &Place) -> String {
    equal_from(usize::from(network.subnet.bits() / 8), place)
}

fn equal_from(fixed: usize, place: &Place) -> String {
    let compared = MAC_BYTES.iter().zip(place.bytes).skip(fixed);
    let compared = compared
        .map(|(mac, byte)| format!("@ll,{},8 . @{},{},8 @same", mac * 8, place.header, byte * 8));
    compared.collect::<Vec<_>>().join(" ")
}

/// Sets of what has no rule because a person has chosen it.
fn chosen(network: &Network, leases: &[Lease]) -> String {
    let chosen: Vec<_> = leases.iter().filter(|lease| lease.is_chosen(network)).collect();
    let pairs: Vec<_> =
        chosen.iter().map(|lease| format!("{} . {}", lease.mac, lease.address)).collect();
    let arp: Vec<_> = chosen
        .iter()
        .map(|Lease { mac, address, .. }| format!("{mac} . {mac} . {address}"))
        .collect();
    let six = chosen.iter().flat_map(|lease| {
        let local = network.subnet6.map(|_| local_of(lease.mac));
        lease.address6.into_iter().chain(local).map(|address| (lease.mac, address))
    });
    let six: Vec<_> = six.collect();
    let sources: Vec<_> = six.iter().map(|(mac, address)| format!("{mac} . {address}")).collect();
    let targets: Vec<_> =
        six.iter().map(|(mac, address)| format!("{mac} . {:#x}", address.to_bits())).collect();
    [
        set("chosen", "type ether_addr . ipv4_addr", &pairs),
        set("chosen_arp", "type ether_addr . ether_addr . ipv4_addr", &arp),
        set("chosen6", "type ether_addr . ipv6_addr", &sources),
        set("chosen_target", "typeof ether saddr . @th,64,128", &targets),
    ]
    .concat()
}

fn set(name: &str, kind: &str, elements: &[String]) -> String {
    match elements {
        [] => format!("set {name} {{ {kind}; }}\n"),
        _ => format!("set {name} {{ {kind}; elements = {{ {} }} }}\n", elements.join(", ")),
    }
}

/// The bits of a hardware address that are the network's.
fn mac_mask(bits: u8) -> Mac {
    let [a, b, c, d] = mask(bits).to_be_bytes();
    Mac([0xff, 0xff, a, b, c, d])
}

/// The first bits of an IPv4 address.
fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

/// The bits of an IPv6 address that are the network's: of its own prefix and what is between, and of
/// the IPv4 address at its end.
fn global_mask(bits: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits((u128::MAX << 32) | u128::from(mask(bits)))
}

/// The link-local address that is made of a hardware address.
fn local_of(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let [g, h, i, j, k, l, m, n] = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(u64::from_be_bytes([g, h, i, j, k, l, m, n])))
}

/// The bits of such an address that are the network's.
fn local_mask(bits: u8) -> Ipv6Addr {
    let [a, b, c, d] = mask(bits).to_be_bytes();
    let end = u64::from_be_bytes([0xff, 0xff, a, 0xff, 0xff, b, c, d]);
    Ipv6Addr::from_bits((u128::MAX << 64) | u128::from(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::NetworkSpec;
    use crate::network::record::tests::{around, spec};

    fn network(subnet: &str, ipv6: bool) -> Network {
        let spec = NetworkSpec { subnet: subnet.parse().ok(), ipv6, ..spec("web") };
        Network::decide(spec, &around()).unwrap()
    }

    fn lease(network: &Network, mac: &str) -> Lease {
        let address = network.subnet.at(9).unwrap();
        Lease {
            container: String::new(),
            name: String::new(),
            hostname: String::new(),
            aliases: Vec::new(),
            dns: Vec::new(),
            mac: mac.parse().unwrap(),
            address,
            address6: network.address6(address),
        }
    }

    #[test]
    fn only_the_bytes_that_differ_are_compared() {
        let compared = |subnet: &str| equal(&network(subnet, false), &SOURCE4);
        assert_eq!(compared("192.0.2.0/24"), "@ll,88,8 . @nh,120,8 @same");
        assert_eq!(
            compared("172.16.0.0/20"),
            "@ll,80,8 . @nh,112,8 @same @ll,88,8 . @nh,120,8 @same"
        );
        assert!(compared("10.0.0.0/8").starts_with("@ll,72,8 . @nh,104,8 @same"));
    }

    #[test]
    fn masks_hold_what_is_the_networks() {
        assert_eq!(mac_mask(20).to_string(), "ff:ff:ff:ff:f0:00");
        assert_eq!(global_mask(20).to_string(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:f000");
        assert_eq!(local_mask(8).to_string(), "ffff:ffff:ffff:ffff:ffff:ffff:ff00:0");
        let mac = Mac::of([172, 16, 0, 9].into());
        assert_eq!(local_of(mac).to_string(), "fe80::42:acff:fe10:9");
    }

    #[test]
    fn what_a_person_has_chosen_is_named() {
        let network = network("192.0.2.0/24", true);
        let usual = ruleset(&network, &[lease(&network, "02:42:c0:00:02:09")]);
        assert!(!usual.contains("02:42:c0:00:02:09"), "{usual}");
        let chosen = ruleset(&network, &[lease(&network, "02:00:00:00:00:09")]);
        for wanted in [
            "elements = { 02:00:00:00:00:09 . 192.0.2.9 }",
            "02:00:00:00:00:09 . fe80::ff:fe00:9 }",
            "02:00:00:00:00:09 . 0xfe80000000000000000000fffe000009 }",
        ] {
            assert!(chosen.contains(wanted), "no {wanted} in {chosen}");
        }
    }

    #[test]
    fn an_internal_network_leads_nowhere() {
        let outward = ruleset(&network("192.0.2.0/24", false), &[]);
        assert!(
            outward.contains("ip saddr 192.0.2.0/24 oifname != \"hr-3fa2b1c43fa2\" masquerade")
        );
        assert!(outward.contains("iifname \"hr-3fa2b1c43fa2\" accept"));
        assert!(!outward.contains("icmpv6"));
        let spec = NetworkSpec { internal: true, ..spec("back") };
        let inward = ruleset(&Network::decide(spec, &around()).unwrap(), &[]);
        assert!(inward.contains("iifname \"hr-3fa2b1c43fa2\" drop"));
        assert!(!inward.contains("masquerade"));
    }
}
