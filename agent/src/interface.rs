//! A network interface and what is set on it, by the calls of netdevice(7).
#![allow(unsafe_code, reason = "ioctls of interfaces have no safe form")]

use std::{
    ffi::{c_int, c_short},
    io, mem,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys::check;

/// `IFF_UP | IFF_RUNNING` in the width an interface's request has them.
const UP: c_short = 0x41;
const _: () = assert!(UP as c_int == libc::IFF_UP | libc::IFF_RUNNING);
/// `RTF_UP | RTF_GATEWAY` in the width a route has them.
const THROUGH_GATEWAY: u16 = 3;
const _: () = assert!(THROUGH_GATEWAY == libc::RTF_UP | libc::RTF_GATEWAY);

/// `SIOCETHTOOL` (linux/sockios.h) and `ETHTOOL_STXCSUM` (linux/ethtool.h).
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value` (linux/ethtool.h).
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// An interface, by its name.
pub(crate) struct Interface<'a> {
    name: &'a str,
    /// Any socket will do for these calls.
    socket: OwnedFd,
}

impl<'a> Interface<'a> {
    /// The interface of this name, which need not be there.
    pub(crate) fn named(name: &'a str) -> io::Result<Self> {
        if name.len() >= libc::IFNAMSIZ {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self { name, socket })
    }

    /// Gives it a hardware address of Ethernet.
    pub(crate) fn set_mac(&self, mac: [u8; 6]) -> io::Result<()> {
        self.set(libc::SIOCSIFHWADDR, |request| {
            request.ifr_ifru.ifru_hwaddr = address_of(libc::ARPHRD_ETHER, 0, mac);
        })
    }

    /// Gives it the length of its longest packet, in bytes.
    pub(crate) fn set_mtu(&self, bytes: u16) -> io::Result<()> {
        self.set(libc::SIOCSIFMTU, |request| request.ifr_ifru.ifru_mtu = c_int::from(bytes))
    }

    /// Gives it an address, which has its class's netmask.
    pub(crate) fn set_address(&self, address: Ipv4Addr) -> io::Result<()> {
        self.set(libc::SIOCSIFADDR, |request| request.ifr_ifru.ifru_addr = internet(address))
    }

    /// Gives its address another netmask.
    pub(crate) fn set_netmask(&self, netmask: Ipv4Addr) -> io::Result<()> {
        self.set(libc::SIOCSIFNETMASK, |request| request.ifr_ifru.ifru_netmask = internet(netmask))
    }

    /// Has the kernel compute the checksums of what leaves it, and so cut it in pieces too: nobody behind
    /// it does (`ETHTOOL_STXCSUM`).
    pub(crate) fn keep_checksums(&self) -> io::Result<()> {
        let mut value = EthtoolValue { command: ETHTOOL_STXCSUM, data: 0 };
        self.set(SIOCETHTOOL, |request| {
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
        })
    }

    /// Brings it up.
    pub(crate) fn raise(&self) -> io::Result<()> {
        self.set(libc::SIOCSIFFLAGS, |request| request.ifr_ifru.ifru_flags = UP)
    }

    /// Brings it down, with all its routes and what it knows of its neighbours.
    pub(crate) fn lower(&self) -> io::Result<()> {
        self.set(libc::SIOCSIFFLAGS, |request| request.ifr_ifru.ifru_flags = 0)
    }

    /// Sends all that has no other way to `gateway`, which it must reach; of several ways the one with the
    /// smallest metric is taken.
    pub(crate) fn route_through(&self, gateway: Ipv4Addr, metric: u16) -> io::Result<()> {
        // SAFETY: rtentry is integers, addresses and a pointer, for which zero is a value.
        let mut route: libc::rtentry = unsafe { mem::zeroed() };
        route.rt_dst = internet(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = internet(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = internet(gateway);
        route.rt_flags = THROUGH_GATEWAY;
        // One more than it is (net/ipv4/fib_frontend.c).
        route.rt_metric = metric.saturating_add(1).try_into().unwrap_or(libc::c_short::MAX);
        // SAFETY: SIOCADDRT reads one rtentry, which is live and names no device.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) })
    }

    /// The same interface for IPv6.
    pub(crate) fn six(&self) -> io::Result<Interface6> {
        let index = rustix::net::netdevice::name_to_index(&self.socket, self.name)?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)?;
        Ok(Interface6 { index, socket })
    }

    fn set(&self, call: libc::Ioctl, fill: impl FnOnce(&mut libc::ifreq)) -> io::Result<()> {
        // SAFETY: ifreq is integers and a union of plain data, for which zero is a value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *place = byte.cast_signed();
        }
        fill(&mut request);
        // SAFETY: the calls of this file read one ifreq, which is live, as is what it points at.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), call, &raw const request) })
    }
}

/// An interface's side of IPv6, which is set by other calls (ipv6(7)).
pub(crate) struct Interface6 {
    index: u32,
    socket: OwnedFd,
}

/// `struct in6_ifreq` (linux/ipv6.h).
#[repr(C)]
struct AddressRequest {
    address: [u8; 16],
    prefix_bits: u32,
    index: u32,
}

/// `struct in6_rtmsg` (linux/ipv6_route.h).
#[derive(Default)]
#[repr(C)]
struct RouteRequest {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_bits: u16,
    source_bits: u16,
    metric: u32,
    info: u64,
    flags: u32,
    index: u32,
}

impl Interface6 {
    /// Gives it an address beside those that it has.
    pub(crate) fn add_address(&self, address: Ipv6Addr, prefix_bits: u8) -> io::Result<()> {
        let request = AddressRequest {
            address: address.octets(),
            prefix_bits: prefix_bits.into(),
            index: self.index,
        };
        // SAFETY: for a socket of IPv6 SIOCSIFADDR reads one in6_ifreq, which is live.
        check(unsafe {
            libc::ioctl(self.socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request)
        })
    }

    /// Sends all that has no other way to `gateway`, which it must reach; as of the other kind.
    pub(crate) fn route_through(&self, gateway: Ipv6Addr, metric: u16) -> io::Result<()> {
        let route = RouteRequest {
            gateway: gateway.octets(),
            // None would be the largest.
            metric: u32::from(metric) + 1,
            flags: THROUGH_GATEWAY.into(),
            index: self.index,
            ..RouteRequest::default()
        };
        // SAFETY: for a socket of IPv6 SIOCADDRT reads one in6_rtmsg, which is live.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) })
    }
}

/// An Internet address as a `sockaddr`: `sockaddr_in` has a port before it.
fn internet(address: Ipv4Addr) -> libc::sockaddr {
    let family = libc::sa_family_t::try_from(libc::AF_INET).expect("families are small");
    address_of(family, 2, address.octets())
}

fn address_of<const BYTES: usize>(
    family: libc::sa_family_t,
    offset: usize,
    bytes: [u8; BYTES],
) -> libc::sockaddr {
    let mut sa_data = [0; 14];
    for (place, byte) in sa_data[offset..].iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    libc::sockaddr { sa_family: family, sa_data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_where_the_kernel_looks() {
        let address = internet(Ipv4Addr::new(192, 0, 2, 254));
        assert_eq!(address.sa_family, 2);
        assert_eq!(address.sa_data[..7], [0, 0, -64, 0, 2, -2, 0]);
        let mac = address_of(libc::ARPHRD_ETHER, 0, [2, 0, 0, 0, 0, 255]);
        assert_eq!((mac.sa_family, mac.sa_data[5]), (1, -1));
    }

    #[test]
    fn a_name_that_no_interface_has_is_refused() {
        assert!(Interface::named("sixteen-letters-").is_err());
        assert!(Interface::named("nobody0").unwrap().raise().is_err());
    }
}
