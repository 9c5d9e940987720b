//! The networks under a root as they are on the disk: read once, and again what the kernel says has
//! changed.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::judge::Scope;
use crate::names::{Lease, Network};

const NETWORKS: &str = "networks";
const RECORD: &str = "network.json";
const LEASES: &str = "leases";
/// What the name of a lease ends with, behind its address.
const ENDING: &str = ".json";
/// What a running container's supervisor has locked, in the container's folder.
const LOCK: &str = "lock";
/// The longest document that is read.
const MAX_BYTES: u64 = 1 << 20;
/// Room for some changes at once.
const CHANGES_BYTES: usize = 4 << 10;

/// All networks, and who is on them.
pub(crate) struct Folders {
    root: PathBuf,
    inotify: OwnedFd,
    watched: HashMap<i32, Watched>,
    networks: BTreeMap<String, Place>,
}

/// A network and its leases.
pub(crate) struct Place {
    pub(crate) network: Network,
    leases: HashMap<String, Lease>,
}

/// What a change is about.
enum Watched {
    /// The networks, or one of them.
    Networks,
    /// The leases of the network in this folder.
    Leases(String),
}

/// What has become of the folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing, or something about leases.
    Leases,
    /// There are other networks.
    Networks,
    /// There is nothing any more.
    Gone,
}

impl Folders {
    /// Those under a root.
    ///
    /// # Errors
    /// When there are none, or the kernel lets nobody watch them.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (watched, networks) = Default::default();
        let mut folders = Self { root: root.to_owned(), inotify, watched, networks };
        folders.read()?;
        Ok(folders)
    }

    /// The folder of all networks.
    pub(crate) fn of_networks(root: &Path) -> PathBuf {
        root.join(NETWORKS)
    }

    /// The networks by the names of their folders.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (&str, &Network)> {
        self.networks.iter().map(|(name, place)| (name.as_str(), &place.network))
    }

    /// A network, by the name of its folder.
    pub(crate) fn place(&self, name: &str) -> Option<&Place> {
        self.networks.get(name)
    }

    /// The network in this folder, and all others that whoever has this address on it is on as well.
    pub(crate) fn scopes(&self, name: &str, address: IpAddr) -> Vec<Scope<'_>> {
        let Some(asked) = self.networks.get(name) else { return Vec::new() };
        let asker = asked.lease_of(address);
        let is_on = |place: &&Place| {
            asker.is_some_and(|asker| place.leases().any(|it| it.container == asker.container))
        };
        let others = self.networks.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(_, place)| place).filter(is_on);
        fn scope(it: &Place) -> Scope<'_> {
            Scope { network: &it.network, leases: it.leases().collect() }
        }
        [asked].into_iter().chain(others).map(scope).collect()
    }

    /// The addresses that this program is asked at.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.networks.values().map(|place| place.network.gateway.into()).collect()
    }

    /// Whether the container of a lease runs: its supervisor holds a lock.
    pub(crate) fn runs(&self, lease: &Lease) -> bool {
        let id = &lease.container;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return false;
        }
        let Ok(lock) = File::open(self.root.join("containers").join(id).join(LOCK)) else {
            return false;
        };
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    /// Reads what has changed since it was asked last.
    pub(crate) fn catch_up(&mut self) -> Change {
        let mut buffer = [MaybeUninit::uninit(); CHANGES_BYTES];
        let mut changed = Vec::new();
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut is_about_networks = false;
        // An event that cannot be read is waited for again.
        while let Ok(event) = reader.next() {
            match (self.watched.get(&event.wd()), event.file_name()) {
                (Some(Watched::Leases(network)), Some(file)) => {
                    changed.extend(lease_name(file).map(|file| (network.clone(), file)));
                }
                (None, _) if !event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {}
                _ => is_about_networks = true,
            }
        }
        if is_about_networks {
            return self.read().map_or(Change::Gone, |()| Change::Networks);
        }
        for (network, file) in changed {
            let folder = self.folder(&network);
            if let Some(place) = self.networks.get_mut(&network) {
                place.read_lease(&folder.join(LEASES), file);
            }
        }
        Change::Leases
    }

    fn folder(&self, network: &str) -> PathBuf {
        self.root.join(NETWORKS).join(network)
    }

    /// Reads everything anew. What makes no sense is as good as not there.
    fn read(&mut self) -> io::Result<()> {
        for watch in std::mem::take(&mut self.watched).into_keys() {
            // It is gone already if its folder is.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
        let folder = self.root.join(NETWORKS);
        self.watch(&folder, Watched::Networks)?;
        let mut networks = BTreeMap::new();
        for entry in fs::read_dir(&folder)?.flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if !name.starts_with('.')
                && let Some(place) = self.read_network(&name)
            {
                networks.insert(name, place);
            }
        }
        self.networks = networks;
        Ok(())
    }

    fn read_network(&mut self, name: &str) -> Option<Place> {
        let folder = self.folder(name);
        self.watch(&folder, Watched::Networks).ok()?;
        let network = serde_json::from_slice(&read(&folder.join(RECORD))?).ok()?;
        let mut place = Place { network, leases: HashMap::new() };
        let leases = folder.join(LEASES);
        // They come with the first lease.
        if self.watch(&leases, Watched::Leases(name.to_owned())).is_ok() {
            for entry in fs::read_dir(&leases).into_iter().flatten().flatten() {
                if let Some(file) = entry.file_name().to_str().and_then(lease_of) {
                    place.read_lease(&leases, file);
                }
            }
        }
        Some(place)
    }

    fn watch(&mut self, folder: &Path, what: Watched) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        self.watched.insert(inotify::add_watch(&self.inotify, folder, flags)?, what);
        Ok(())
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Place {
    /// Who is on it, whether they run or not.
    pub(crate) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// The servers that whoever has this address wants to be asked for it; none are the host's.
    pub(crate) fn servers(&self, address: IpAddr) -> &[IpAddr] {
        self.lease_of(address).map_or(&[], |lease| &lease.dns)
    }

    fn lease_of(&self, address: IpAddr) -> Option<&Lease> {
        self.leases.values().find(|lease| lease.has(address))
    }

    fn read_lease(&mut self, folder: &Path, file: String) {
        let lease = read(&folder.join(&file)).and_then(|text| serde_json::from_slice(&text).ok());
        match lease {
            Some(lease) => self.leases.insert(file, lease),
            None => self.leases.remove(&file),
        };
    }
}

fn lease_name(file: &CStr) -> Option<String> {
    file.to_str().ok().and_then(lease_of)
}

/// A name that is a lease's: files are written under other names first.
fn lease_of(file: &str) -> Option<String> {
    file.strip_suffix(ENDING)?.parse::<Ipv4Addr>().ok().map(|_| file.to_owned())
}

/// A whole document, if there is one.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_BYTES), &mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let aside = path.with_file_name("new");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }

    fn network(root: &Path, name: &str, gateway: &str) {
        let text = format!(
            r#"{{"name":"{name}","gateway":"{gateway}","subnet":"10.0.0.0/8","interface":"x"}}"#
        );
        write(&root.join(NETWORKS).join(name).join(RECORD), &text);
    }

    fn lease(root: &Path, network: &str, address: &str, name: &str) {
        let path = root.join(NETWORKS).join(network).join(LEASES).join(format!("{address}.json"));
        write(&path, &format!(r#"{{"name":"{name}","container":"{name}","address":"{address}"}}"#));
    }

    fn names(folders: &Folders, network: &str) -> Vec<String> {
        let place = folders.place(network).unwrap();
        let mut names: Vec<_> = place.leases().map(|lease| lease.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn changes_are_followed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(Folders::open(root).is_err());
        network(root, "a", "10.0.0.1");
        lease(root, "a", "10.0.0.2", "web");
        let mut folders = Folders::open(root).unwrap();
        assert_eq!(names(&folders, "a"), ["web"]);
        lease(root, "a", "10.0.0.3", "db");
        assert_eq!(folders.catch_up(), Change::Leases);
        assert_eq!(names(&folders, "a"), ["db", "web"]);
        fs::remove_file(root.join("networks/a/leases/10.0.0.2.json")).unwrap();
        assert_eq!(folders.catch_up(), Change::Leases);
        assert_eq!(names(&folders, "a"), ["db"]);
        network(root, "b", "10.0.0.129");
        assert_eq!(folders.catch_up(), Change::Networks);
        assert_eq!(names(&folders, "b"), Vec::<String>::new());
        lease(root, "b", "10.0.0.130", "db");
        assert_eq!(folders.catch_up(), Change::Networks);
        assert_eq!(names(&folders, "b"), ["db"]);
        assert_eq!(folders.gateways().len(), 2);
        fs::rename(root.join("networks/b"), root.join("networks/.gone-b")).unwrap();
        assert_eq!(folders.catch_up(), Change::Networks);
        assert!(folders.place("b").is_none());
        fs::remove_dir_all(root.join(NETWORKS)).unwrap();
        assert_eq!(folders.catch_up(), Change::Gone);
    }

    #[test]
    fn what_makes_no_sense_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        network(root, "a", "10.0.0.1");
        write(&root.join("networks/b/network.json"), "{");
        lease(root, "a", "10.0.0.2", "web");
        write(&root.join("networks/a/leases/10.0.0.3.json"), "[]");
        write(&root.join("networks/a/leases/x.json"), r#"{"name":"x"}"#);
        let folders = Folders::open(root).unwrap();
        assert_eq!(names(&folders, "a"), ["web"]);
        assert!(folders.place("b").is_none());
    }

    #[test]
    fn only_a_lock_that_is_held_tells_that_a_container_runs() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        network(root, "a", "10.0.0.1");
        let folders = Folders::open(root).unwrap();
        let of = |id: &str| Lease { container: id.to_owned(), ..Lease::default() };
        let home = root.join("containers/abc");
        fs::create_dir_all(&home).unwrap();
        assert!(!folders.runs(&of("abc")));
        let lock = File::create(home.join(LOCK)).unwrap();
        assert!(!folders.runs(&of("abc")));
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert!(folders.runs(&of("abc")));
        assert!(!folders.runs(&of("../containers/abc")) && !folders.runs(&of("")));
    }
}
