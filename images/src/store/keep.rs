//! Puts layers, blobs and documents into their places in the store.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::SyncSender;

use serde::{Deserialize, Serialize};

use super::files::{failed, read_if_there, sync_files, sync_folder, write_atomically, write_whole};
use super::intake::{Blobs, Intake};
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::layer::{Budget, Expected, Outputs, Record, Summary, unpack};
use crate::manifest::Descriptor;

/// `layers/<diff id>/origin.json`: the blob that a layer was unpacked from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) blob: Digest,
    pub(super) blob_size: u64,
    pub(super) media_type: String,
    pub(super) summary: Summary,
}

impl Intake<'_> {
    /// The layer, if it is in the store. A damaged one is put aside, to be unpacked anew.
    pub(super) fn known_layer(&self, diff_id: Digest) -> Result<Option<Origin>, Error> {
        let layer = self.store.layer(diff_id);
        let Some(bytes) = read_if_there(&layer.join("origin.json"))? else { return Ok(None) };
        if let Ok(origin) = serde_json::from_slice(&bytes) {
            return Ok(Some(origin));
        }
        let aside = self.folder().join(format!("damaged-{}", diff_id.hex()));
        fs::rename(&layer, aside).map_err(failed("move away", &layer))?;
        Ok(None)
    }

    /// Unpacks a layer, and puts it and its blob in place.
    pub(super) fn unpack(
        &self,
        input: impl Read + Send,
        diff_id: Digest,
        descriptor: Option<&Descriptor>,
        budget: &Budget,
        records: Option<SyncSender<Vec<Record>>>,
    ) -> Result<Origin, Error> {
        let folder = tempfile::tempdir_in(self.folder())
            .map_err(failed("create a folder in", self.folder()))?;
        let create = |folder: &Path, name: &str| {
            let path = folder.join(name);
            File::create_new(&path).map_err(failed("create", &path))
        };
        // Beside the layer's own folder, which becomes its home.
        let beside = tempfile::tempdir_in(self.folder())
            .map_err(failed("create a folder in", self.folder()))?;
        let blob = match self.blobs {
            Blobs::Keep => Some(create(beside.path(), "blob")?),
            Blobs::Drop => None,
        };
        let outputs = Outputs {
            data: create(folder.path(), "data")?,
            tree: create(folder.path(), "tree")?,
            blob,
            records,
        };
        let expected = Expected { diff_id, blob: descriptor.map(|descriptor| descriptor.digest) };
        let unpacked = unpack(input, expected, &outputs, budget)
            .map_err(|source| Error::Layer { layer: diff_id, source })?;
        let origin = Origin {
            blob: unpacked.blob,
            blob_size: unpacked.blob_size,
            media_type: media_type(descriptor, unpacked.media_type),
            summary: unpacked.summary,
        };
        let Outputs { data, tree, blob, records } = outputs;
        // There are no more of them.
        drop(records);
        let files: Vec<&File> = [&data, &tree].into_iter().chain(&blob).collect();
        sync_files(&files).map_err(failed("sync", folder.path()))?;
        if blob.is_some() {
            self.keep_renamed(&beside.path().join("blob"), origin.blob)?;
        }
        self.keep_layer(folder, diff_id, &origin)?;
        Ok(origin)
    }

    pub(super) fn keep_layer(
        &self,
        folder: tempfile::TempDir,
        diff_id: Digest,
        origin: &Origin,
    ) -> Result<(), Error> {
        let path = folder.path().join("origin.json");
        let bytes =
            serde_json::to_vec(origin).map_err(|error| failed("write", &path)(error.into()))?;
        write_atomically(&self.store.temporary(), &path, &bytes)?;
        let home = self.store.layer(diff_id);
        match fs::rename(folder.path(), &home) {
            // Its files are at home now; only the guard of the empty place is left.
            Ok(()) => drop(folder.keep()),
            // Somebody else unpacked the same layer meanwhile.
            Err(_) if exists(&home)? => {}
            Err(error) => return Err(failed("create", &home)(error).into()),
        }
        Ok(())
    }

    /// Copies a layer's blob into the store without unpacking it; gives its size.
    ///
    /// # Errors
    /// If the bytes are not those that the descriptor names, or the store cannot be written.
    pub fn keep_blob(&self, mut input: impl Read, descriptor: &Descriptor) -> Result<u64, Error> {
        let what = descriptor.digest.to_string();
        let folder = self.folder();
        let write_failed = failed("write a blob to", folder);
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(&write_failed)?;
        let (mut hasher, mut size) = (Hasher::default(), 0);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read blob", Path::new(&what))(error).into()),
            };
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(&write_failed)?;
            size += count as u64;
        }
        let (expected, actual) = (descriptor.digest, hasher.finish());
        if actual != expected {
            return Err(Error::WrongDigest { what: format!("blob {what}"), expected, actual });
        }
        file.as_file().sync_all().map_err(&write_failed)?;
        let path = file.into_temp_path();
        self.keep_renamed(&path, expected)?;
        // It is at its place now.
        drop(path.keep());
        Ok(size)
    }

    pub(super) fn keep_renamed(&self, path: &Path, digest: Digest) -> Result<(), Error> {
        let home = self.store.blob(digest);
        Ok(fs::rename(path, &home).map_err(failed("create", &home))?)
    }

    /// Keeps a document as a blob.
    pub(super) fn document(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.store.blob(digest);
        if !exists(&path)? {
            write_whole(&self.store.temporary(), &path, bytes)?;
        }
        Ok(digest)
    }

    /// Makes last what was put into its place, before anything refers to it.
    pub(super) fn sync_places(&self) -> Result<(), Error> {
        for folder in [self.store.blobs(), self.store.layers(), self.store.disks()] {
            sync_folder(&folder)?;
        }
        Ok(())
    }
}

fn media_type(descriptor: Option<&Descriptor>, found: &'static str) -> String {
    match descriptor {
        Some(descriptor) if !descriptor.media_type.is_empty() => descriptor.media_type.clone(),
        _ => found.to_owned(),
    }
}

pub(super) fn exists(path: &Path) -> Result<bool, Error> {
    Ok(path.try_exists().map_err(failed("look for", path))?)
}
