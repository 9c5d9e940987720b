//! Takes the ports of the host that a container is published by.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, sockopt};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::options::{ContainerPort, PortRange, Protocol, Publication};

/// How many may wait to be let in, as far as the host allows.
const BACKLOG: i32 = 4096;
/// How often another free port is tried, where one is free at one address and taken at the next.
const ATTEMPTS: usize = 64;

/// A port of the host that leads to one of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The container's.
    pub port: ContainerPort,
    /// The host's address and port.
    pub host: SocketAddr,
}

/// A port of the host that is ours.
#[derive(Debug)]
pub(crate) struct Door {
    /// Where it is, and where it leads.
    pub(crate) published: Published,
    pub(super) socket: DoorSocket,
}

/// What of the host leads to a container.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    /// Ports that are ours.
    pub(crate) doors: Vec<Door>,
    /// Ports that passt has while it is at work.
    pub(crate) by_passt: Vec<Published>,
}

/// What stands open.
#[derive(Debug)]
pub(super) enum DoorSocket {
    Streams(TcpListener),
    Datagrams(UdpSocket),
}

/// Why a port of the host is not ours.
#[derive(Debug, Error)]
pub enum DoorError {
    /// Somebody else has it.
    #[error("Bind for {0} failed: port is already allocated")]
    Taken(SocketAddr),
    /// The same of each that would do.
    #[error("all ports are allocated: {0}")]
    AllTaken(PortRange),
    /// The kernel has another reason.
    #[error("cannot bind {host}")]
    Refused {
        /// Which one.
        host: SocketAddr,
        /// What it is.
        source: io::Error,
    },
}

impl DoorError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Taken(_) | Self::AllTaken(_) => Some(
                "publish another port of the host, or -p PORT takes any that is free".to_owned(),
            ),
            Self::Refused { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("publish a port from 1024 on: lower ones are root's".to_owned())
                }
                io::ErrorKind::AddrNotAvailable => {
                    Some("publish at an address that this host has".to_owned())
                }
                _ => None,
            },
        }
    }
}

/// Takes all ports that are to lead to a container, or none. Nobody is let in yet, but may knock.
///
/// # Errors
/// When one of them cannot be had.
pub(crate) fn open_doors(wanted: &[Publication]) -> Result<Vec<Door>, DoorError> {
    let mut doors = Vec::new();
    for publication in wanted {
        doors.extend(open(publication)?);
    }
    Ok(doors)
}

/// One port, at one address or at all of both kinds.
fn open(wanted: &Publication) -> Result<Vec<Door>, DoorError> {
    let one = wanted.address.map(|address| vec![address]);
    let all = || vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = one.unwrap_or_else(all);
    let Some(range) = wanted.host else { return open_any(wanted.port, &addresses) };
    for number in range.ports() {
        match open_at(wanted.port, &addresses, number) {
            Err(DoorError::Taken(_)) if range.count() > 1 => {}
            done => return done,
        }
    }
    Err(DoorError::AllTaken(range))
}

/// The same port at each address, whichever is free.
fn open_any(port: ContainerPort, addresses: &[IpAddr]) -> Result<Vec<Door>, DoorError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match open_at(port, addresses, 0) {
            Err(DoorError::Taken(_)) if attempts < ATTEMPTS => {}
            done => return done,
        }
    }
}

fn open_at(
    port: ContainerPort,
    addresses: &[IpAddr],
    mut number: u16,
) -> Result<Vec<Door>, DoorError> {
    let mut doors: Vec<Door> = Vec::new();
    for address in addresses {
        let host = SocketAddr::new(*address, number);
        match open_socket(port.protocol, host) {
            Ok((socket, host)) => {
                number = host.port();
                doors.push(Door { published: Published { port, host }, socket });
            }
            // All addresses are those of IPv4, where a host has no other.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if !doors.is_empty() => {}
            Err(Errno::ADDRINUSE) => return Err(DoorError::Taken(host)),
            Err(error) => return Err(DoorError::Refused { host, source: error.into() }),
        }
    }
    Ok(doors)
}

fn open_socket(protocol: Protocol, host: SocketAddr) -> Result<(DoorSocket, SocketAddr), Errno> {
    let family = if host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if host.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier life that are not forgotten yet are in nobody's way.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &host)?;
    if protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    let host = SocketAddr::try_from(getsockname(&socket)?).expect("it was bound to one");
    let socket = match protocol {
        Protocol::Tcp => DoorSocket::Streams(socket.into()),
        Protocol::Udp => DoorSocket::Datagrams(socket.into()),
    };
    Ok((socket, host))
}

impl AsFd for DoorSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Streams(listener) => listener.as_fd(),
            Self::Datagrams(socket) => socket.as_fd(),
        }
    }
}

/// A socket that is not waited for, about to be connected.
pub(super) fn streaming_socket(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Publish;

    fn publications(text: &str) -> Vec<Publication> {
        text.parse::<Publish>().unwrap().0
    }

    fn opened(text: &str) -> Result<Vec<String>, String> {
        let doors = open_doors(&publications(text)).map_err(|error| error.to_string())?;
        Ok(doors.iter().map(|door| door.published.host.to_string()).collect())
    }

    #[test]
    fn a_free_port_is_the_same_at_all_addresses() {
        for kind in ["80", "80/udp"] {
            let doors = open_doors(&publications(kind)).unwrap();
            let hosts: Vec<_> = doors.iter().map(|door| door.published.host).collect();
            assert!(hosts[0].ip().is_unspecified() && hosts[0].port() > 0);
            assert!(hosts.iter().all(|host| host.port() == hosts[0].port()), "{hosts:?}");
            assert!(hosts.len() == 2 || TcpListener::bind("[::]:0").is_err(), "{hosts:?}");
        }
    }

    #[test]
    fn a_taken_port_is_an_error_and_nothing_else_stays_taken() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        let mut wanted = publications(&format!("{free}:80"));
        wanted.extend(publications(&format!("{at}:81")));
        let error = open_doors(&wanted).unwrap_err().to_string();
        assert_eq!(error, format!("Bind for {at} failed: port is already allocated"));
        TcpListener::bind(free).unwrap();
        // One that listens at all addresses is in the way too.
        let error = opened(&format!("{}:81", at.port())).unwrap_err();
        let words = format!("Bind for 0.0.0.0:{} failed: port is already allocated", at.port());
        assert_eq!(error, words);
        let error = opened(&format!("{0}-{0}:81", at.port())).unwrap_err();
        assert_eq!(error, words);
        // The other protocol's ports are others.
        assert_eq!(opened(&format!("{at}:81/udp")).unwrap(), [at.to_string()]);
    }

    #[test]
    fn the_first_free_port_of_a_range_is_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = taken.local_addr().unwrap().port().min(65_000);
        let doors = opened(&format!("127.0.0.1:{first}-{}:80", first + 100)).unwrap();
        assert_eq!(doors.len(), 1);
        assert_ne!(doors[0], taken.local_addr().unwrap().to_string());
    }

    #[test]
    fn an_address_of_somebody_else_is_refused() {
        let error = open_doors(&publications("192.0.2.1:8080:80")).unwrap_err();
        assert!(matches!(error, DoorError::Refused { .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot bind 192.0.2.1:8080");
    }
}
