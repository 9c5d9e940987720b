//! The TCP connections of a container that goes on in a copy of its machine: whoever was at their other end is
//! the original's. They end for the container as if they had been reset, and nothing is sent to anybody, if
//! the interfaces are down.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::{OwnedFd, RawFd},
};

use rustix::{
    net::{
        AddressFamily, SocketType, connect_unspec, getpeername,
        sockopt::{socket_domain, socket_type},
    },
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use crate::{
    cgroup::Cgroup,
    step::{Doing, StepError},
};

/// Ends those that lead out of the container. Its processes stand still, so that none is made meanwhile. One
/// that cannot be looked at ends by itself, when nobody answers.
pub(crate) fn end(cgroup: &Cgroup) -> Result<(), StepError> {
    let mut ended = BTreeSet::new();
    for pid in cgroup.processes().doing("list the container's processes")? {
        // It may have been killed.
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        for (number, socket) in sockets(pid) {
            if ended.insert(socket) {
                let _left = end_one(&pidfd, number);
            }
        }
    }
    Ok(())
}

/// The sockets that a process has open, each with its number and what tells it from others.
fn sockets(pid: Pid) -> Vec<(RawFd, String)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let socket = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let socket = target.to_str()?.strip_prefix("socket:")?.to_owned();
        Some((entry.file_name().to_str()?.parse().ok()?, socket))
    };
    entries.filter_map(|entry| socket(entry.ok()?)).collect()
}

fn end_one(pidfd: &OwnedFd, number: RawFd) -> io::Result<()> {
    let socket = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?;
    if leads_out(&socket)? {
        // It takes an established connection away, with ECONNRESET for whoever uses it (net/ipv4/tcp.c,
        // `tcp_disconnect`).
        connect_unspec(&socket)?;
    }
    Ok(())
}

/// Whether it is a TCP connection with somebody who is not in the container.
fn leads_out(socket: &OwnedFd) -> io::Result<bool> {
    let is_internet = [AddressFamily::INET, AddressFamily::INET6].contains(&socket_domain(socket)?);
    if !is_internet || socket_type(socket)? != SocketType::STREAM {
        return Ok(false);
    }
    // One that is not connected has nobody.
    let Some(peer) = getpeername(socket)? else { return Ok(false) };
    Ok(SocketAddr::try_from(peer).is_ok_and(|peer| !is_loopback(peer.ip())))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_stays_inside_is_no_way_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(!leads_out(&stream.into()).unwrap() && !leads_out(&accepted.into()).unwrap());
        assert!(!leads_out(&listener.into()).unwrap_or(false));
        let addresses =
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "172.16.0.2", "fd00::1"];
        let inside = addresses.map(|address| is_loopback(address.parse().unwrap()));
        assert_eq!(inside, [true, true, true, true, false, false]);
    }

    #[test]
    fn a_connection_that_is_ended_was_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
        let found = sockets(rustix::process::getpid());
        let number = std::os::fd::AsRawFd::as_raw_fd(&stream);
        assert!(found.iter().any(|(found, _)| *found == number));
        // It leads nowhere outside, so it is left.
        end_one(&own, number).unwrap();
        assert!(stream.peer_addr().is_ok());
        connect_unspec(&stream).unwrap();
        let error = io::Read::read(&mut &stream, &mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        drop(accepted);
    }
}
