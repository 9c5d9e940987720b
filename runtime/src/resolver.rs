//! The program that answers for the names of containers: there is one for each root, as long as a
//! container on a network runs. Whoever looks after such a container says so by a lock, and starts the
//! program where there is none.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::containers::files::open_lock;
use crate::error::Error;
use crate::guest_files::find_resolver;
use crate::places::Places;
use crate::process::Independent;

/// Held by the program.
const RESOLVER: &str = ".resolver.lock";
/// The sockets of the host, the port of names as it is there, and how one is told that listens
/// (Documentation/networking/proc_net_tcp.rst).
const SOCKETS: [&str; 2] = ["/proc/net/udp", "/proc/net/tcp"];
const PORT: &str = "0035";
const LISTENING: [&str; 2] = ["07", "0A"];
/// Held by all who need it.
const USERS: &str = ".resolver-users.lock";

/// The need for names; the program stays at least as long as this.
#[derive(Debug)]
pub(crate) struct Need {
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock until the last process closes it")]
    users: File,
    /// Where names cannot be answered, since somebody else has the port.
    pub(crate) hindrance: Option<IpAddr>,
}

impl Need {
    /// Says that names are needed at these addresses, and starts the program if it does not run. It is not waited for.
    ///
    /// # Errors
    /// When it is not there, or cannot be started.
    pub(crate) fn new(places: &Places, addresses: &[IpAddr]) -> Result<Self, Error> {
        let folder = places.networks();
        // One that is about to leave holds this for a moment, and has let go of the other by then.
        let users = locked(&folder.join(USERS), FlockOperation::LockShared)?;
        let mut hindrance = None;
        match locked(&folder.join(RESOLVER), FlockOperation::NonBlockingLockShared) {
            Ok(free) => {
                // Whoever is there now is not ours.
                hindrance = addresses.iter().copied().find(|address| is_taken(*address));
                // The program must be able to take it.
                drop(free);
                start(places)?;
            }
            Err(Error::File { source, .. }) if is_held(&source) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { users, hindrance })
    }
}

/// Whether somebody listens at all addresses of the host, or at this one, where the program would.
pub(crate) fn is_taken(address: IpAddr) -> bool {
    let tables = SOCKETS.iter().filter_map(|path| fs::read_to_string(path).ok());
    tables.into_iter().any(|table| has_listener(&table, address))
}

/// Whether a table of sockets has such a one.
fn has_listener(table: &str, address: IpAddr) -> bool {
    table.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (own, state) = (words.next(), words.nth(1));
        let listens = state.is_some_and(|state| LISTENING.contains(&state));
        let own = own.and_then(|own| own.split_once(':'));
        own.filter(|(_, port)| listens && *port == PORT).is_some_and(|(own, _)| {
            // As it lies in memory.
            let own = u32::from_str_radix(own, 16).map(|own| Ipv4Addr::from(own.to_ne_bytes()));
            own.is_ok_and(|own| own.is_unspecified() || IpAddr::V4(own) == address)
        })
    })
}

fn is_held(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::WOULDBLOCK)
}

fn locked(path: &Path, how: FlockOperation) -> Result<File, Error> {
    let file = open_lock(path)?;
    retry_on_intr(|| flock(&file, how)).map_err(|error| Error::File {
        action: "lock",
        path: path.into(),
        source: error.into(),
    })?;
    Ok(file)
}

/// Its root is all that it is told. It goes on without this process, and is nobody's child: whoever has started
/// it need not wait for its end.
fn start(places: &Places) -> Result<(), Error> {
    let path = find_resolver()?.path;
    let failed = |path| move |source| Error::File { action: "start", path, source };
    let mut command = Command::new(&path);
    command.arg(&places.data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let starter = Independent::fork(move || u8::from(command.spawn().is_err()));
    match starter.map_err(failed(path.clone()))?.ends_well() {
        true => Ok(()),
        false => Err(failed(path)(io::ErrorKind::Other.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_where_names_are_asked_for_is_found() {
        let gateway = Ipv4Addr::new(172, 16, 0, 1);
        let own = u32::from_ne_bytes(gateway.octets());
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        for (own, port, state, wanted) in [
            (own, "0035", "07", true),
            (own, "0035", "0A", true),
            (0, "0035", "0A", true),
            (own, "0035", "01", false),
            (own, "0036", "0A", false),
            (own.swap_bytes(), "0035", "07", false),
        ] {
            let line = format!(" 173: {own:08X}:{port} 00000000:0000 {state} 00000000:00000000\n");
            assert_eq!(has_listener(&format!("{head}{line}"), gateway.into()), wanted, "{line}");
        }
        assert!(!has_listener("", gateway.into()));
    }
}
