//! The program that answers for the names of containers: there is one for each root, as long as a
//! container on a network runs. Whoever looks after such a container says so by a lock, and starts the
//! program where there is none.

use std::fs::File;
use std::io;
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
/// Held by all who need it.
const USERS: &str = ".resolver-users.lock";

/// The need for names; the program stays at least as long as this.
#[derive(Debug)]
pub(crate) struct Need {
    /// Never read: it is locked.
    #[expect(dead_code, reason = "holds the lock until the last process closes it")]
    users: File,
}

impl Need {
    /// Says that names are needed, and starts the program if it does not run. It is not waited for.
    ///
    /// # Errors
    /// When it is not there, or cannot be started.
    pub(crate) fn new(places: &Places) -> Result<Self, Error> {
        let folder = places.networks();
        // One that is about to leave holds this for a moment, and has let go of the other by then.
        let users = locked(&folder.join(USERS), FlockOperation::LockShared)?;
        match locked(&folder.join(RESOLVER), FlockOperation::NonBlockingLockShared) {
            Ok(free) => {
                // The program must be able to take it.
                drop(free);
                start(places)?;
            }
            Err(Error::File { source, .. }) if is_held(&source) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { users })
    }
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
