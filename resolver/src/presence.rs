//! Who is there: one resolver for each root, as long as somebody needs it.
//!
//! The resolver holds one file locked, so that there is no second. Whoever needs it holds another one
//! locked together with all others who do, and the kernel takes that lock back however they end: when the
//! resolver can have it for itself, nobody needs it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::folders::Folders;

/// Locked by the resolver; its process number is in it, for whoever wants to know when it ends.
const RESOLVER: &str = ".resolver.lock";
/// Locked by those who need it.
const USERS: &str = ".resolver-users.lock";

/// The resolver of one root.
#[derive(Debug)]
pub struct Presence {
    own: File,
    users: File,
}

impl Presence {
    /// Takes the place of a root's resolver; none if there is one.
    ///
    /// # Errors
    /// When there are no networks, or the files cannot be made.
    pub fn take(root: &Path) -> io::Result<Option<Self>> {
        let folder = Folders::of_networks(root);
        let own = open(&folder.join(RESOLVER))?;
        match retry_on_intr(|| flock(&own, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            done => done?,
        }
        let users = open(&folder.join(USERS))?;
        fs::write(folder.join(RESOLVER), format!("{}\n", std::process::id()))?;
        Ok(Some(Self { own, users }))
    }

    /// Calls `leave` when nobody has needed the resolver for some time.
    ///
    /// Whoever comes between the two locks finds the first one free, and starts another.
    ///
    /// # Errors
    /// When there is no thread to wait in.
    pub fn wait_aside(self, linger: Duration, leave: fn()) -> io::Result<()> {
        let wait = move || {
            // A lock that cannot be waited for is as good as one that is never free.
            while lock(&self.users, FlockOperation::LockExclusive) {
                lock(&self.users, FlockOperation::Unlock);
                thread::sleep(linger);
                if lock(&self.users, FlockOperation::NonBlockingLockExclusive) {
                    lock(&self.own, FlockOperation::Unlock);
                    return leave();
                }
            }
        };
        thread::Builder::new().name("presence".to_owned()).stack_size(64 << 10).spawn(wait)?;
        Ok(())
    }
}

fn lock(file: &File, how: FlockOperation) -> bool {
    retry_on_intr(|| flock(file, how)).is_ok()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender};
    use std::sync::{Mutex, OnceLock};

    use super::*;

    /// Tells the one test that waits; between that and the waiting thread.
    static LEFT: OnceLock<Mutex<Sender<()>>> = OnceLock::new();

    #[test]
    fn there_is_one_resolver_as_long_as_somebody_needs_it() {
        let root = tempfile::tempdir().unwrap();
        assert!(Presence::take(root.path()).is_err());
        fs::create_dir(root.path().join("networks")).unwrap();
        let presence = Presence::take(root.path()).unwrap().unwrap();
        assert!(Presence::take(root.path()).unwrap().is_none());
        let folder = root.path().join("networks");
        let written = fs::read_to_string(folder.join(RESOLVER)).unwrap();
        assert_eq!(written, format!("{}\n", std::process::id()));
        let users = [open(&folder.join(USERS)).unwrap(), open(&folder.join(USERS)).unwrap()];
        users.iter().for_each(|user| assert!(lock(user, FlockOperation::LockShared)));
        let (tell, told) = mpsc::channel();
        LEFT.set(Mutex::new(tell)).unwrap();
        let leave = || LEFT.get().unwrap().lock().unwrap().send(()).unwrap();
        presence.wait_aside(Duration::from_millis(1), leave).unwrap();
        let [first, second] = users;
        drop(first);
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
        drop(second);
        told.recv_timeout(Duration::from_secs(60)).unwrap();
        // Its place is free before it has gone.
        assert!(Presence::take(root.path()).unwrap().is_some());
    }
}
