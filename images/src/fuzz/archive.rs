//! Whole archives, Docker's and OCI's, loaded into a store.

use std::io::Cursor;

use super::sandbox::Sandbox;
use super::tar::sealed;
use crate::LoadSource;

/// Loads `bytes` as an archive: as a stream, and from a file.
///
/// # Panics
/// When the two differ, or the store is not what it should be afterwards.
pub fn archive(bytes: &[u8]) {
    let bytes = sealed(bytes);
    let sandbox = Sandbox::new();
    let path = sandbox.beside().join("archive");
    std::fs::write(&path, &bytes).expect("the host has room");
    let stream = sandbox.load(LoadSource::Reader(Box::new(Cursor::new(bytes))));
    if let Ok(images) = stream {
        let again = sandbox.load(LoadSource::Path(path));
        assert_eq!(again.expect("it was loaded as a stream"), images);
    } else {
        // It may well be loaded: what is behind the last member that counts is not read then.
        let _loaded = sandbox.load(LoadSource::Path(path));
    }
}
