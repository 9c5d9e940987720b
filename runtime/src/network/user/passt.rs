//! passt at work: a child of the supervisor, which answers for published ports too, and ends when its machine
//! does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};

use super::{ADDRESS, ADDRESS6, GATEWAY, GATEWAY6, PREFIX_BITS};
use crate::network::Mac;
use crate::network::error::NetworkError;
use crate::network::host::find_program;
use crate::options::{ContainerPort, Protocol};
use crate::process::Process;
use crate::publish::Published;

/// The program.
pub(crate) const PROGRAM: &str = "passt";
/// How long it may take to get ready.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How long it may take to end that has hung up.
const FAREWELL: Duration = Duration::from_secs(2);
/// The most that is read of its words, in bytes.
const MAX_WORDS_BYTES: u64 = 16 << 10;
/// Whoever runs may write to a pipe that is inherited: as root, passt becomes nobody before it opens it anew.
const ANYBODY: u32 = 0o666;

/// What it is to do.
#[derive(Debug)]
pub(crate) struct Errand {
    /// Its end of the way.
    pub(super) socket: UnixStream,
    /// An interface of the host with IPv6, if containers are to have that.
    pub(super) six: Option<String>,
    /// Where it asks the host's first name server for the container.
    pub(super) forwarders: Vec<IpAddr>,
}

/// passt at work; it ends with this value, and when the machine's end of its socket is closed.
#[derive(Debug)]
pub(crate) struct Passt {
    process: Process,
    /// What it says; where nobody reads and there is no room, nothing.
    words: io::PipeReader,
}

impl Errand {
    /// Starts it, and waits until it is ready and answers for these ports.
    ///
    /// # Errors
    /// When it is not installed, or does not get that far.
    pub(crate) fn start(self, ports: &[Published]) -> Result<Passt, NetworkError> {
        let program = find_program(PROGRAM)
            .ok_or_else(|| NetworkError::User { reason: "passt is not installed".to_owned() })?;
        let failed = |error: io::Error| NetworkError::User { reason: error.to_string() };
        let (ready, ready_out) = io::pipe().map_err(failed)?;
        let (words, words_out) = io::pipe().map_err(failed)?;
        prepare(&ready_out, &words_out).map_err(failed)?;
        let mut command = self.command(&program, &port_words(ports)?);
        let number = ready_out.as_raw_fd();
        command.arg("--pid").arg(format!("/proc/self/fd/{number}"));
        command.args(["--fd", &self.socket.as_raw_fd().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::from(OwnedFd::from(words_out)));
        let process = Process::fork_bound(|| {
            // It keeps these, and nothing else of ours.
            let kept = fcntl_setfd(&self.socket, FdFlags::empty())
                .and_then(|()| fcntl_setfd(&ready_out, FdFlags::empty()));
            // Whether one or the other failed, its parent sees an end without words.
            drop(kept.map(|()| command.exec()));
            1
        });
        let process = process.map_err(failed)?;
        drop((command, ready_out, self.socket));
        let mut passt = Passt { process, words };
        if is_written(ready).map_err(failed)? {
            return Ok(passt);
        }
        Err(NetworkError::User { reason: passt.last_words() })
    }

    /// What it is told but for its socket. What it would take from an interface of the host it is told, so any
    /// will do: a host without a way out has `lo`.
    fn command(&self, program: &Path, ports: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(["--foreground", "--quiet", "--stderr"]);
        // A container reaches what the host offers to others, and not what it keeps to itself.
        command.args(["--no-map-gw", "--no-dhcp", "--no-dhcpv6", "--no-ra"]);
        command.args(["--mac-addr", &Mac::of(GATEWAY).to_string()]);
        command.args(["--address", &ADDRESS.to_string(), "--netmask", &PREFIX_BITS.to_string()]);
        command.args(["--gateway", &GATEWAY.to_string()]);
        match &self.six {
            None => command.args(["--ipv4-only", "--interface", "lo"]),
            Some(interface) => command
                .args(["--interface", interface, "--address", &ADDRESS6.to_string()])
                .args(["--gateway", &GATEWAY6.to_string()]),
        };
        for forwarder in &self.forwarders {
            command.args(["--dns-forward", &forwarder.to_string()]);
        }
        command.args(ports);
        command
    }
}

impl Passt {
    /// Why it has ended, or did not get ready.
    pub(crate) fn last_words(&mut self) -> String {
        self.process.wait_at_most(FAREWELL);
        self.process.kill();
        let mut text = Vec::new();
        // It wrote what it wrote.
        let _ = self.words.by_ref().take(MAX_WORDS_BYTES).read_to_end(&mut text);
        reason(&String::from_utf8_lossy(&text))
    }
}

impl AsFd for Passt {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

/// Checks that passt can lead ports of the host as it is wanted.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_ports(ports: &[Published]) -> Result<(), NetworkError> {
    port_words(ports).map(drop)
}

/// Makes two pipes what passt's ends of them are to be.
fn prepare(ready: &io::PipeWriter, words: &io::PipeWriter) -> io::Result<()> {
    let ready = fs::File::from(ready.as_fd().try_clone_to_owned()?);
    ready.set_permissions(fs::Permissions::from_mode(ANYBODY))?;
    Ok(fcntl_setfl(words, fcntl_getfl(words)? | OFlags::NONBLOCK)?)
}

/// Whether something is written into a pipe before nobody has it open any more.
fn is_written(mut pipe: io::PipeReader) -> io::Result<bool> {
    let mut polled = [PollFd::new(&pipe, PollFlags::IN)];
    let is_over = retry_on_intr(|| poll(&mut polled, Some(&PATIENCE)))? > 0;
    Ok(is_over && pipe.read(&mut [0])? > 0)
}

/// The words for ports that the host answers for. passt takes each port of the host once.
fn port_words(ports: &[Published]) -> Result<Vec<String>, NetworkError> {
    let mut doors: BTreeMap<(Protocol, u16), (ContainerPort, Vec<SocketAddr>)> = BTreeMap::new();
    for Published { port, host } in ports {
        let door = doors.entry((port.protocol, host.port())).or_insert((*port, Vec::new()));
        door.1.push(*host);
        if door.0 != *port {
            return Err(twice(*host, door.1[0]));
        }
    }
    let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let mut words = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let flag = match protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        let before = words.len();
        for ((_, number), (port, hosts)) in doors.iter().filter(|((it, _), _)| *it == protocol) {
            let address = match hosts[..] {
                [host] => format!("{}/", host.ip()),
                [one, other] if all == [one.ip(), other.ip()] => String::new(),
                _ => return Err(twice(hosts[1], hosts[0])),
            };
            words.extend([flag.to_owned(), format!("{address}{number}:{}", port.number)]);
        }
        if words.len() == before {
            words.extend([flag.to_owned(), "none".to_owned()]);
        }
    }
    Ok(words)
}

fn twice(one: SocketAddr, other: SocketAddr) -> NetworkError {
    let reason =
        format!("passt leads a port of the host to one place only, and {one} is beside {other}");
    NetworkError::User { reason }
}

/// What of its words tells why it has ended: it complains of each line that a host without a system log does
/// not take, and shows all its options where it does not know one.
fn reason(words: &str) -> String {
    if let Some((_, option)) = words.split_once("unrecognized option '") {
        let option = option.split('\'').next().unwrap_or_default();
        return format!("passt is too old: it does not know {option}");
    }
    let lines = words.lines().map(str::trim);
    let mut told = lines.filter(|line| !line.is_empty() && !line.starts_with("Failed to send"));
    match told.next_back() {
        Some(line) => taken(line).unwrap_or_else(|| format!("passt says {line}")),
        None => "passt has said nothing".to_owned(),
    }
}

/// Docker's words for a port that somebody has, if that is what this line tells.
fn taken(line: &str) -> Option<String> {
    let rest = line.strip_prefix("Failed to bind any port for '-")?;
    let (published, _) = rest.split_once(' ')?.1.split_once('\'')?;
    let (host, _) = published.rsplit_once(':')?;
    let (address, port) = host.split_once('/').unwrap_or(("0.0.0.0", host));
    Some(format!("Bind for {address}:{port} failed: port is already allocated"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Expose;

    fn published(ports: &[(&str, &str)]) -> Result<String, String> {
        let ports: Vec<_> = ports
            .iter()
            .map(|(host, port)| Published {
                port: port.parse::<Expose>().unwrap().0[0],
                host: host.parse().unwrap(),
            })
            .collect();
        port_words(&ports).map(|words| words.join(" ")).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_are_as_passt_reads_them() {
        for (ports, wanted) in [
            (&[][..], "--tcp-ports none --udp-ports none"),
            (
                &[("0.0.0.0:8080", "80/tcp"), ("[::]:8080", "80/tcp")],
                "--tcp-ports 8080:80 --udp-ports none",
            ),
            (&[("0.0.0.0:8080", "80/tcp")], "--tcp-ports 0.0.0.0/8080:80 --udp-ports none"),
            (
                &[("127.0.0.1:53", "53/udp"), ("[::1]:53", "54/tcp")],
                "--tcp-ports ::1/53:54 --udp-ports 127.0.0.1/53:53",
            ),
        ] {
            assert_eq!(published(ports).unwrap(), wanted, "{ports:?}");
        }
        for ports in [
            [("127.0.0.1:80", "80/tcp"), ("127.0.0.2:80", "80/tcp")],
            [("0.0.0.0:80", "80/tcp"), ("[::]:80", "81/tcp")],
        ] {
            let error = published(&ports).unwrap_err();
            assert!(error.contains("to one place only"), "{error}");
        }
    }

    #[test]
    fn the_reason_is_what_it_said_last() {
        let words = "Failed to send 7 bytes to syslog\nTemplate interface: lo\n\
                     PID file open: Permission denied\nFailed to send 34 bytes to syslog\n\n";
        assert_eq!(reason(words), "passt says PID file open: Permission denied");
        assert_eq!(reason(""), "passt has said nothing");
        let old = "passt: unrecognized option '--fd'\nUsage: passt [OPTION]...\n";
        assert_eq!(reason(old), "passt is too old: it does not know --fd");
        for (published, host) in [
            ("127.0.0.1/80:8080", "127.0.0.1:80"),
            ("80:8080", "0.0.0.0:80"),
            ("::1/80:8080", "::1:80"),
        ] {
            let words = format!("Failed to bind any port for '-t {published}', exiting\n");
            let wanted = format!("Bind for {host} failed: port is already allocated");
            assert_eq!(reason(&words), wanted);
        }
    }

    #[test]
    fn a_program_that_ends_is_not_waited_for() {
        let (ready, out) = io::pipe().unwrap();
        drop(out);
        assert!(!is_written(ready).unwrap());
        let (ready, mut out) = io::pipe().unwrap();
        io::Write::write_all(&mut out, b"7\n").unwrap();
        assert!(is_written(ready).unwrap());
    }
}
