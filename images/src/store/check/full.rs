//! The slow half of a check: makes everything again that can be made again, and compares.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::super::files::invalid;
use super::super::record::Record;
use super::super::{Store, StoreError, disk};
use super::{digest_of, wrong_digest};
use crate::compression::read_up_to;
use crate::digest::Digest;
use crate::error::Error;
use crate::layer::{Budget, Expected, LayerError, Outputs, RecordReader, unpack};
use crate::limits::Limits;

/// The limits held when the layer came in; here nothing may be refused for its size.
const NO_LIMITS: Limits = Limits {
    max_entries: u64::MAX,
    max_unpacked_bytes: u64::MAX,
    max_metadata_bytes: u64::MAX,
    max_layers: usize::MAX,
    max_document_bytes: u64::MAX,
    max_archive_members: usize::MAX,
};

/// The file has the digest it goes by.
pub(super) fn hash(path: &Path, wanted: Digest) -> io::Result<()> {
    if digest_of(path)? == wanted { Ok(()) } else { Err(wrong_digest()) }
}

/// What a comparison ended with.
pub(super) enum Trouble {
    /// A file is not as it must be.
    Damaged(PathBuf, io::Error),
    /// The comparison itself failed, as on a full disk.
    Failed(Error),
}

/// Unpacks the blob again; the layer's files must be the same, byte for byte. A layer that an older
/// version has unpacked is in another format, and passes.
pub(super) fn compare_layer(store: &Store, layer: Digest, blob: Digest) -> Result<(), Trouble> {
    let damaged = |path: &Path, error| Trouble::Damaged(path.to_owned(), error);
    let tree = store.layer(layer).join("tree");
    let records = File::open(&tree).and_then(RecordReader::new);
    if !records.map_err(|error| damaged(&tree, error))?.is_current() {
        return Ok(());
    }
    let failed = |error| Trouble::Failed(Error::io("unpack a layer in", store.temporary(), error));
    let blob_path = store.blob(blob);
    let folder = tempfile::tempdir_in(store.temporary()).map_err(failed)?;
    let create = |name: &str| File::create_new(folder.path().join(name)).map_err(failed);
    let (data, tree) = (create("data")?, create("tree")?);
    let outputs = Outputs { data, tree, blob: None, records: None };
    let input = File::open(&blob_path).map_err(|error| damaged(&blob_path, error))?;
    let expected = Expected { diff_id: layer, blob: Some(blob) };
    unpack(input, expected, &outputs, &Budget::new(&NO_LIMITS)).map_err(|error| match error {
        LayerError::Write(error) => failed(error),
        error => damaged(&blob_path, io::Error::other(error)),
    })?;
    for name in ["data", "tree"] {
        let path = store.layer(layer).join(name);
        match same_bytes(&path, &folder.path().join(name)) {
            Ok(true) => {}
            Ok(false) => {
                return Err(damaged(&path, invalid("it is not what its blob unpacks to")));
            }
            Err(error) => return Err(damaged(&path, error)),
        }
    }
    Ok(())
}

/// Makes the disk's metadata again; it must be the same, byte for byte.
pub(super) fn compare_disk(
    store: &Store,
    id: Digest,
    record: &Record,
    path: &Path,
) -> Result<(), Trouble> {
    let folder = tempfile::tempdir_in(store.temporary())
        .map_err(|error| Trouble::Failed(Error::io("make a disk in", store.temporary(), error)))?;
    let again = folder.path().join("meta.erofs");
    let damaged = |error| Trouble::Damaged(path.to_owned(), error);
    disk::merge(store, record)
        .and_then(|merged| disk::write(store, merged, id, record, &again))
        .map_err(|error| match error {
            Error::Store(StoreError::Io { .. }) => Trouble::Failed(error),
            error => damaged(io::Error::other(error)),
        })?;
    match same_bytes(path, &again) {
        Ok(true) => Ok(()),
        Ok(false) => Err(damaged(invalid("it is not what its layers make"))),
        Err(error) => Err(damaged(error)),
    }
}

fn same_bytes(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut first, mut second) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let count = read_up_to(&mut left, &mut first)?;
        let other = read_up_to(&mut right, &mut second)?;
        if first[..count] != second[..other] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}
