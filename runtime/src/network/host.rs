//! What the host has of a network: made when it is needed, made anew when it is gone.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use super::error::NetworkError;
use super::netlink::Netfilter;
use super::record::Network;
use super::{Networks, link, netlink, rules};
use crate::containers::files::{file_error, open_lock};
use crate::error::Error;

/// Where `nft` may be that is not in the person's own path.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];
/// A flock for all roots of the host.
const LOCK: &str = "/run/hyperrun-networks.lock";
/// The most that is told of what `nft` has to say, in lines.
const MAX_LINES: usize = 3;

/// What there is of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The number of its bridge, if that is there.
    pub(crate) bridge: Option<u32>,
    /// How many of its tables of rules there are.
    pub(crate) tables: usize,
}

impl Standing {
    /// Whether all rules are in force.
    pub(crate) fn is_guarded(self) -> bool {
        self.tables == netlink::FAMILIES.len()
    }
}

/// Held by whoever looks for addresses that nobody on this host has, until a bridge has them.
#[derive(Debug)]
pub(crate) struct HostLock {
    /// Never read: it is locked. Who may not have one may make no bridges either.
    #[expect(dead_code, reason = "holds the lock")]
    lock: Option<File>,
}

impl HostLock {
    /// Waits until no other root is about to make a bridge.
    pub(super) fn take() -> Result<Self, Error> {
        let path = Path::new(LOCK);
        let Ok(lock) = open_lock(path) else { return Ok(Self { lock: None }) };
        retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
            .map_err(|error| file_error("lock", path)(error.into()))?;
        Ok(Self { lock: Some(lock) })
    }
}

/// Looks whether a network is set up: two questions to the kernel.
pub(crate) fn look(network: &Network) -> Result<Standing, NetworkError> {
    let failed = failed(format!("look at network {}", network.name));
    // Where somebody may not ask there is no network that could be set up.
    let netfilter = match Netfilter::open() {
        Err(_) if matches!(link::bridge(network), Ok(None)) => {
            return Ok(Standing { bridge: None, tables: 0 });
        }
        opened => opened.map_err(failed.clone())?,
    };
    let bridge = netfilter.index(&network.interface).map_err(failed.clone())?;
    let tables = match netfilter.count_tables(&network.interface) {
        Err(_) if bridge.is_none() => 0,
        tables => tables.map_err(failed)?,
    };
    Ok(Standing { bridge, tables })
}

/// Makes sure that a network is set up; the number of its bridge.
pub(crate) fn ensure(networks: &Networks, network: &Network) -> Result<u32, Error> {
    let standing = look(network)?;
    if let Some(index) = standing.bridge.filter(|_| standing.is_guarded()) {
        return Ok(index);
    }
    set_up(networks, network, &HostLock::take()?)
}

/// Sets up what is missing of a network; the number of its bridge.
pub(super) fn set_up(
    networks: &Networks,
    network: &Network,
    _host: &HostLock,
) -> Result<u32, Error> {
    let _locked = networks.lock()?;
    // Somebody else may have done it meanwhile.
    let standing = look(network)?;
    if standing.bridge.is_none() {
        check_free(network)?;
        link::make_bridge(network).map_err(failed(format!("set up network {}", network.name)))?;
    }
    if !standing.is_guarded() {
        enforce(networks, network)?;
    }
    let bridge = look(network)?.bridge;
    let gone =
        || failed(format!("set up network {}", network.name))(io::ErrorKind::NotFound.into());
    Ok(bridge.ok_or_else(gone)?)
}

/// Puts a network's rules in force. Only for whoever has locked the networks.
pub(super) fn enforce(networks: &Networks, network: &Network) -> Result<(), Error> {
    nft(network, &rules::ruleset(network, &networks.leases(network)?))?;
    Ok(())
}

/// Takes away all that the host has of a network.
pub(super) fn take_down(network: &Network) -> Result<(), NetworkError> {
    let Standing { bridge, tables } = look(network)?;
    if bridge.is_some() {
        link::remove(&network.interface)
            .map_err(failed(format!("take network {} down", network.name)))?;
    }
    if tables > 0 {
        nft(network, &rules::removal(&network.interface))?;
    }
    Ok(())
}

/// Puts a container's tap on a network.
pub(super) fn plug(
    network: &Network,
    bridge: u32,
    tap: &str,
    mac: super::Mac,
) -> Result<(), NetworkError> {
    link::plug(network, bridge, tap, mac)
        .map_err(failed(format!("connect an interface to network {}", network.name)))
}

/// Whether `nft` is installed, and where.
pub(crate) fn find_nft() -> Option<PathBuf> {
    find_program("nft")
}

/// Whether a program is installed, and where.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(SYSTEM_FOLDERS).map(Path::new);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The host may have got a route to the same addresses since the network was made.
fn check_free(network: &Network) -> Result<(), NetworkError> {
    let failed = failed("look at the host's routes".to_owned());
    let taken = link::routes().map_err(failed)?.taken;
    taken.check(network.subnet)?;
    network.subnet6.map_or(Ok(()), |subnet| taken.check6(subnet).map(drop))
}

/// Has `nft` read these rules, all of them or none.
fn nft(network: &Network, text: &str) -> Result<(), NetworkError> {
    let refused = |reason: String| NetworkError::Rules { network: network.name.clone(), reason };
    let program = find_nft().ok_or_else(|| refused("nft is not installed".to_owned()))?;
    let ran = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            let mut input = child.stdin.take().expect("it was piped");
            // One that ends early says why.
            let _ = input.write_all(text.as_bytes());
            drop(input);
            child.wait_with_output()
        });
    let output = ran.map_err(|error| refused(format!("nft cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words: Vec<_> = words.lines().map(str::trim).take(MAX_LINES).collect();
    Err(refused(format!("nft says {}", words.join(" / "))))
}

fn failed(action: String) -> impl Fn(io::Error) -> NetworkError + Clone {
    move |source| NetworkError::Host { action: action.clone(), source }
}
