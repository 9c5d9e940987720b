//! Takes an archive's images into the store: layers and blobs first, then the image, then its names.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::{failed, read_if_there, sync_folder, write_atomically};
use super::record::{LayerRecord, Record, Written};
use super::{Store, disk};
use crate::archive::{self, Archive, ArchivedImage, ArchivedLayer, LoadSource};
use crate::config::ImageConfig;
use crate::digest::{Digest, Hasher};
use crate::document::DocumentError;
use crate::error::Error;
use crate::layer::{Budget, Expected, Outputs, Summary, unpack};
use crate::limits::Limits;
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names that the archive gave it; perhaps none.
    pub references: Vec<Reference>,
}

/// `layers/<diff id>/origin.json`: the blob that a layer was unpacked from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) blob: Digest,
    pub(super) blob_size: u64,
    pub(super) media_type: String,
    pub(super) summary: Summary,
}

impl Store {
    /// Loads every image of a Docker archive, an OCI archive or an OCI folder. Names move from the
    /// images that had them before.
    ///
    /// # Errors
    /// If the archive or an image in it cannot be used. The store is then as it was before.
    pub fn load(&self, source: LoadSource, limits: &Limits) -> Result<Vec<Loaded>, Error> {
        let loaded = self.load_all(source, limits);
        if loaded.is_err() {
            // Best effort: what is left now, the next collection takes.
            let _left = self.collect();
        }
        loaded
    }

    fn load_all(&self, source: LoadSource, limits: &Limits) -> Result<Vec<Loaded>, Error> {
        let _busy = self.lock_shared()?;
        let temporary = tempfile::tempdir_in(self.temporary())
            .map_err(failed("create a folder in", &self.temporary()))?;
        let archive = Archive::open(source, temporary.path(), limits)?;
        let load = Load { store: self, archive: &archive, temporary: temporary.path(), limits };
        let images = archive::images(&archive, limits)?;
        let mut complete = Vec::new();
        for image in images {
            let (image, record) = load.image(image)?;
            // Layers that make no file tree are found now, and the first run finds its disk ready.
            disk::ensure(self, image.id, &record)?;
            complete.push((image, record));
        }
        self.publish(&complete)?;
        Ok(complete.into_iter().map(|(image, _)| image).collect())
    }

    /// Makes images known whose parts are all there: all of them, or none.
    fn publish(&self, images: &[(Loaded, Record)]) -> Result<(), Error> {
        let mut taken = self.take_names()?;
        let mut new = Vec::new();
        let complete = images.iter().try_for_each(|(image, record)| {
            if self.write_record(record)? == Written::Now {
                new.push(image.id);
            }
            let references = image.references.iter().cloned();
            references.for_each(|reference| taken.names.insert(reference, image.id));
            Ok(())
        });
        let published = complete.and_then(|()| taken.save());
        if published.is_err() {
            for id in new {
                // Best effort: what stays is an image without a name.
                let _stays = self.withdraw(id);
            }
        }
        Ok(published?)
    }
}

/// One run of `load`.
struct Load<'a> {
    store: &'a Store,
    archive: &'a Archive,
    temporary: &'a Path,
    limits: &'a Limits,
}

impl Load<'_> {
    /// Everything of an image but its record.
    fn image(&self, image: ArchivedImage) -> Result<(Loaded, Record), Error> {
        let (member, expected) = &image.config;
        let bytes = self.archive.document(member, self.limits)?;
        let id = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != id) {
            return Err(Error::WrongDigest { what: member.clone(), expected, actual: id });
        }
        let config =
            ImageConfig::parse(&bytes).map_err(|source| Error::document(member, source))?;
        let diff_ids = self.diff_ids(&image, &config)?;
        let budget = Budget::new(self.limits);
        let (mut layers, mut size) = (Vec::new(), 0_u64);
        for (layer, diff_id) in image.layers.iter().zip(diff_ids) {
            let origin = self.layer(layer, *diff_id, &budget)?;
            size = size.saturating_add(origin.summary.content_bytes);
            layers.push(LayerRecord {
                diff_id: *diff_id,
                blob: origin.blob,
                blob_size: origin.blob_size,
                media_type: origin.media_type,
            });
        }
        self.document(&bytes)?;
        let manifest = image.manifest.as_deref().map(|bytes| self.document(bytes)).transpose()?;
        let record = Record { config: id, manifest, layers, size };
        Ok((Loaded { id, references: image.references }, record))
    }

    fn diff_ids<'c>(
        &self,
        image: &ArchivedImage,
        config: &'c ImageConfig,
    ) -> Result<&'c [Digest], Error> {
        let (manifest, configured) = (image.layers.len(), config.diff_ids.len());
        let member = &image.config.0;
        if manifest != configured {
            let source = DocumentError::LayerCount { manifest, config: configured };
            return Err(Error::document(member, source));
        }
        let limit = self.limits.max_layers;
        if manifest > limit {
            let source = DocumentError::TooManyLayers { count: manifest, limit };
            return Err(Error::document(member, source));
        }
        Ok(&config.diff_ids)
    }

    /// Makes sure that the layer and its blob are in the store.
    fn layer(
        &self,
        layer: &ArchivedLayer,
        diff_id: Digest,
        budget: &Budget,
    ) -> Result<Origin, Error> {
        let known = self.known_layer(diff_id)?;
        if let Some(origin) = &known {
            let counted = budget.take_known(&origin.summary);
            counted.map_err(|source| Error::Layer { layer: diff_id, source })?;
        }
        match (known, &layer.descriptor) {
            (None, _) => self.unpack(layer, diff_id, budget),
            (Some(origin), None) => Ok(origin),
            (Some(origin), Some(descriptor)) if origin.blob == descriptor.digest => Ok(origin),
            // The same layer, compressed in another way: the image's own blob is kept as well.
            (Some(origin), Some(descriptor)) => {
                let blob_size = self.keep_blob(layer, descriptor)?;
                let media_type = descriptor.media_type.clone();
                Ok(Origin { blob: descriptor.digest, blob_size, media_type, ..origin })
            }
        }
    }

    /// The layer, if it is in the store. A damaged one is put aside, to be unpacked anew.
    fn known_layer(&self, diff_id: Digest) -> Result<Option<Origin>, Error> {
        let layer = self.store.layer(diff_id);
        let Some(bytes) = read_if_there(&layer.join("origin.json"))? else { return Ok(None) };
        if let Ok(origin) = serde_json::from_slice(&bytes) {
            return Ok(Some(origin));
        }
        let aside = self.temporary.join(format!("damaged-{}", diff_id.hex()));
        fs::rename(&layer, aside).map_err(failed("move away", &layer))?;
        Ok(None)
    }

    fn unpack(
        &self,
        layer: &ArchivedLayer,
        diff_id: Digest,
        budget: &Budget,
    ) -> Result<Origin, Error> {
        let folder = tempfile::tempdir_in(self.temporary)
            .map_err(failed("create a folder in", self.temporary))?;
        let create = |name: &str| {
            let path = folder.path().join(name);
            File::create_new(&path).map_err(failed("create", &path))
        };
        let blob_path = self.temporary.join("blob");
        let blob = File::create(&blob_path).map_err(failed("create", &blob_path))?;
        let outputs = Outputs { data: create("data")?, tree: create("tree")?, blob: Some(blob) };
        let failed_layer = |source| Error::Layer { layer: diff_id, source };
        let input = self.archive.reader(&layer.member)?;
        let blob = layer.descriptor.as_ref().map(|descriptor| descriptor.digest);
        let unpacked = unpack(input, Expected { diff_id, blob }, &outputs, budget);
        let unpacked = unpacked.map_err(failed_layer)?;

        let origin = Origin {
            blob: unpacked.blob,
            blob_size: unpacked.blob_size,
            media_type: media_type(layer.descriptor.as_ref(), unpacked.media_type),
            summary: unpacked.summary,
        };
        for file in [&outputs.data, &outputs.tree].into_iter().chain(&outputs.blob) {
            file.sync_all().map_err(failed("sync", folder.path()))?;
        }
        self.keep_renamed(&blob_path, origin.blob)?;
        let path = folder.path().join("origin.json");
        let bytes =
            serde_json::to_vec(&origin).map_err(|error| failed("write", &path)(error.into()))?;
        write_atomically(&self.store.temporary(), &path, &bytes)?;
        let home = self.store.layer(diff_id);
        match fs::rename(folder.path(), &home) {
            // Its files are at home now; only the guard of the empty place is left.
            Ok(()) => drop(folder.keep()),
            // Somebody else unpacked the same layer meanwhile.
            Err(_) if exists(&home)? => {}
            Err(error) => return Err(failed("create", &home)(error).into()),
        }
        sync_folder(&self.store.layers())?;
        Ok(origin)
    }

    /// Copies a blob into the store without unpacking it.
    fn keep_blob(&self, layer: &ArchivedLayer, descriptor: &Descriptor) -> Result<u64, Error> {
        let home = self.store.blob(descriptor.digest);
        if exists(&home)? {
            return Ok(fs::metadata(&home).map_err(failed("look at", &home))?.len());
        }
        let mut input = self.archive.reader(&layer.member)?;
        let path = self.temporary.join("blob");
        let write_failed = failed("write", &path);
        let mut file = File::create(&path).map_err(&write_failed)?;
        let (mut hasher, mut size) = (Hasher::default(), 0);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count =
                input.read(&mut buffer).map_err(failed("read", Path::new(&layer.member)))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(&write_failed)?;
            size += count as u64;
        }
        let (expected, actual) = (descriptor.digest, hasher.finish());
        if actual != expected {
            return Err(Error::WrongDigest { what: layer.member.clone(), expected, actual });
        }
        file.sync_all().map_err(&write_failed)?;
        self.keep_renamed(&path, expected)?;
        Ok(size)
    }

    fn keep_renamed(&self, path: &Path, digest: Digest) -> Result<(), Error> {
        let home = self.store.blob(digest);
        fs::rename(path, &home).map_err(failed("create", &home))?;
        Ok(sync_folder(&self.store.blobs())?)
    }

    /// Keeps a document as a blob.
    fn document(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.store.blob(digest);
        if !exists(&path)? {
            write_atomically(&self.store.temporary(), &path, bytes)?;
        }
        Ok(digest)
    }
}

fn media_type(descriptor: Option<&Descriptor>, found: &'static str) -> String {
    match descriptor {
        Some(descriptor) if !descriptor.media_type.is_empty() => descriptor.media_type.clone(),
        _ => found.to_owned(),
    }
}

fn exists(path: &Path) -> Result<bool, Error> {
    Ok(path.try_exists().map_err(failed("look for", path))?)
}
