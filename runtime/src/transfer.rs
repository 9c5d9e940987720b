//! Starts `hyperrun-registry`, the program that talks to registries: in this one's place, or as a
//! child that is waited for.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use images::{Fetch, Limits, Order, Platform, Pull, Tags, Talk, Transfer};

use crate::error::Error;
use crate::guest_files::find_registry;
use crate::places::Places;

/// Lets `hyperrun-registry` do the rest, with this process's streams and its exit code. Returns only
/// if it cannot be started.
pub fn become_client(transfer: Transfer) -> Error {
    match client(transfer, None) {
        Ok((mut command, path)) => {
            let source = command.exec();
            Error::File { action: "start", path, source }
        }
        Err(error) => error,
    }
}

/// Pulls an image for a run; what is said goes to stderr.
pub(crate) fn pull(name: &str, places: &Places) -> Result<(), Error> {
    let pull = Pull {
        store: places.images(),
        name: name.to_owned(),
        tags: Tags::One,
        platform: Platform::host(),
        limits: Limits::DEFAULT,
        talk: Talk::Aside,
    };
    finish(Transfer::Pull(pull), name)
}

/// Fetches those blobs of an image that were not kept, so that it can be saved.
///
/// # Errors
/// If they cannot be had; the client has said why.
pub fn fetch_blobs(name: &str, places: &Places) -> Result<(), Error> {
    let fetch = Fetch { store: places.images(), name: name.to_owned() };
    finish(Transfer::Fetch(fetch), name)
}

/// Lets the client do something about an image, and waits for it. It ends when this process does,
/// however that ends. To be called by the process's first thread, since the kernel takes the end of the
/// thread that has started a child for its parent's.
fn finish(transfer: Transfer, name: &str) -> Result<(), Error> {
    let (mut command, path) = client(transfer, Some(std::process::id()))?;
    // The program's own input is not the client's.
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|source| Error::File { action: "start", path, source })?;
    if status.success() {
        return Ok(());
    }
    // One that ended by itself has said why.
    Err(Error::NotPulled { name: name.to_owned(), told: status.code().is_some() })
}

fn client(transfer: Transfer, parent: Option<u32>) -> Result<(Command, std::path::PathBuf), Error> {
    let path = find_registry()?.path;
    let order = Order { version: env!("CARGO_PKG_VERSION").to_owned(), parent, transfer };
    let mut command = Command::new(&path);
    command.arg(order.to_argument());
    Ok((command, path))
}
