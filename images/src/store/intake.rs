//! Takes images into the store piece by piece: layers from any stream and several at once, then the
//! documents, and last the records and names. What is not published vanishes again.

use std::fs::{self, File};
use std::io::Read;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;

use super::files::failed;
use super::keep::{Origin, exists};
use super::merging::Merging;
use super::record::{LayerRecord, Record};
use super::{Store, disk};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::document::DocumentError;
use crate::error::Error;
use crate::layer::{Budget, Record as LayerEntry};
use crate::limits::Limits;
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// Parcels of records that may wait to be merged.
const BATCHES_WAITING: usize = 4;

/// An image that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names it was given; perhaps none.
    pub references: Vec<Reference>,
}

/// Whether the blobs of layers are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blobs {
    /// Beside the unpacked layer, for `save` and `push`.
    Keep,
    /// Only the unpacked layer is kept.
    Drop,
}

/// What is missing of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Its blob is wanted, to be unpacked or to be kept.
    Blob,
    /// It is all there.
    Nothing,
}

/// Images on their way into the store. While it lives, nothing is removed from the store.
#[derive(Debug)]
pub struct Intake<'a> {
    pub(super) store: &'a Store,
    temporary: tempfile::TempDir,
    limits: Limits,
    pub(super) blobs: Blobs,
    _busy: File,
}

impl Store {
    /// Does the work of taking images in. When it fails, what it has added is removed again.
    ///
    /// # Errors
    /// What `work` returns, or that the store cannot be written.
    pub fn take_in<T, E: From<Error>>(
        &self,
        limits: &Limits,
        blobs: Blobs,
        work: impl FnOnce(&Intake<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let done = self.intake(limits, blobs).map_err(E::from).and_then(|intake| work(&intake));
        if done.is_err() {
            // Best effort: what is left now, the next collection takes.
            let _left = self.collect();
        }
        done
    }

    fn intake(&self, limits: &Limits, blobs: Blobs) -> Result<Intake<'_>, Error> {
        let busy = self.lock_shared()?;
        let temporary = tempfile::tempdir_in(self.temporary())
            .map_err(failed("create a folder in", &self.temporary()))?;
        Ok(Intake { store: self, temporary, limits: *limits, blobs, _busy: busy })
    }
}

impl Intake<'_> {
    /// A folder for unfinished work, on the store's file system.
    pub(super) fn folder(&self) -> &Path {
        self.temporary.path()
    }

    /// Begins an image. `name` is what errors call its configuration; `layers` are the manifest's, a
    /// blob's descriptor where there is one.
    ///
    /// # Errors
    /// If the configuration cannot be used, or does not list as many layers.
    pub fn image(
        &self,
        name: &str,
        config: Vec<u8>,
        manifest: Option<Vec<u8>>,
        layers: Vec<Option<Descriptor>>,
    ) -> Result<Incoming<'_>, Error> {
        let parsed = ImageConfig::parse(&config).map_err(|source| Error::document(name, source))?;
        let (count, limit) = (layers.len(), self.limits.max_layers);
        let configured = parsed.diff_ids.len();
        if count != configured {
            let source = DocumentError::LayerCount { manifest: count, config: configured };
            return Err(Error::document(name, source));
        }
        if count > limit {
            return Err(Error::document(name, DocumentError::TooManyLayers { count, limit }));
        }
        let layers = parsed.diff_ids.into_iter().zip(layers);
        Ok(Incoming {
            intake: self,
            config,
            manifest,
            layers: layers
                .map(|(diff_id, descriptor)| Layer { diff_id, descriptor, origin: OnceLock::new() })
                .collect(),
            budget: Budget::new(&self.limits),
            merging: Mutex::default(),
        })
    }

    /// Makes images known whose parts are all there: all of them, or none.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn publish(&self, images: Vec<Complete>) -> Result<Vec<Loaded>, Error> {
        self.sync_places()?;
        let mut taken = self.store.take_names()?;
        let mut written = Vec::new();
        let complete = images.iter().try_for_each(|Complete { image, record }| {
            written.push((image.id, self.store.write_record(record)?));
            let references = image.references.iter().cloned();
            references.for_each(|reference| taken.names.insert(reference, image.id));
            Ok(())
        });
        let published = complete.and_then(|()| taken.save());
        if published.is_err() {
            for (id, written) in written {
                // Best effort: what stays is an image without a name, or a manifest.
                let _stays = self.store.withdraw(id, written);
            }
        }
        published?;
        Ok(images.into_iter().map(|complete| complete.image).collect())
    }
}

/// An image whose parts are all in the store, but which nobody can see yet.
#[derive(Debug)]
pub struct Complete {
    image: Loaded,
    record: Record,
}

/// An image of which layers are being taken in, by several threads if there are any.
#[derive(Debug)]
pub struct Incoming<'a> {
    intake: &'a Intake<'a>,
    config: Vec<u8>,
    manifest: Option<Vec<u8>>,
    layers: Vec<Layer>,
    budget: Budget,
    /// Of the thread that unpacks a layer whose turn it is; the others go on without it.
    merging: Mutex<Merging>,
}

#[derive(Debug)]
struct Layer {
    diff_id: Digest,
    descriptor: Option<Descriptor>,
    origin: OnceLock<Origin>,
}

impl Incoming<'_> {
    /// The digests of its uncompressed layers, from the base upwards.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// What has to be read for layer `number`. To be asked before [`Incoming::take`], and by one
    /// thread for each layer.
    ///
    /// # Errors
    /// If the store cannot be read, or the layer is too much for the image's limits.
    pub fn missing(&self, number: usize) -> Result<Missing, Error> {
        let layer = &self.layers[number];
        if layer.origin.get().is_some() {
            return Ok(Missing::Nothing);
        }
        let Some(origin) = self.intake.known_layer(layer.diff_id)? else {
            return Ok(Missing::Blob);
        };
        let origin = match &layer.descriptor {
            // The same layer, compressed in another way: the image's own blob is kept as well.
            Some(descriptor) if origin.blob != descriptor.digest => {
                let home = self.intake.store.blob(descriptor.digest);
                if self.intake.blobs == Blobs::Keep && !exists(&home)? {
                    return Ok(Missing::Blob);
                }
                let size = fs::metadata(&home).map_or(descriptor.size, |blob| blob.len());
                Origin { blob_size: size, ..of_descriptor(origin, descriptor) }
            }
            _ => origin,
        };
        self.count(layer, origin)?;
        Ok(Missing::Nothing)
    }

    fn count(&self, layer: &Layer, origin: Origin) -> Result<(), Error> {
        let counted = self.budget.take_known(&origin.summary);
        counted.map_err(|source| Error::Layer { layer: layer.diff_id, source })?;
        layer.origin.get_or_init(|| origin);
        Ok(())
    }

    /// Reads the blob of layer `number`, unpacks it if that is missing, and checks its digests.
    ///
    /// # Errors
    /// If the bytes are not those of the layer, or cannot be unpacked, or the store cannot be written.
    pub fn take(&self, number: usize, input: impl Read + Send) -> Result<(), Error> {
        let layer = &self.layers[number];
        match (self.intake.known_layer(layer.diff_id)?, &layer.descriptor) {
            (Some(origin), Some(descriptor)) => {
                let blob_size = self.intake.keep_blob(input, descriptor)?;
                self.count(layer, Origin { blob_size, ..of_descriptor(origin, descriptor) })
            }
            (Some(origin), None) => self.count(layer, origin),
            (None, _) => {
                let unpacked = match self.turn(number) {
                    Some(merging) => self.unpack_and_merge(number, input, merging)?,
                    None => self.unpack(layer, input, None)?,
                };
                layer.origin.get_or_init(|| unpacked);
                Ok(())
            }
        }
    }

    /// The merge, if all layers below this one are there and nobody else is merging.
    fn turn(&self, number: usize) -> Option<MutexGuard<'_, Merging>> {
        let below = &self.layers[..number];
        let merging = self.merging.try_lock().ok()?;
        let all_there = below.iter().all(|layer| layer.origin.get().is_some());
        (all_there && merging.may_merge(number)).then_some(merging)
    }

    fn unpack(
        &self,
        layer: &Layer,
        input: impl Read + Send,
        records: Option<SyncSender<Vec<LayerEntry>>>,
    ) -> Result<Origin, Error> {
        let descriptor = layer.descriptor.as_ref();
        self.intake.unpack(input, layer.diff_id, descriptor, &self.budget, records)
    }

    fn unpack_and_merge(
        &self,
        number: usize,
        input: impl Read + Send,
        mut merging: MutexGuard<'_, Merging>,
    ) -> Result<Origin, Error> {
        let (layer, layers) = (&self.layers[number], &self.diff_ids()[..=number]);
        let (sender, records) = sync_channel(BATCHES_WAITING);
        let (unpacked, merged) = thread::scope(|scope| {
            let merging = &mut *merging;
            let following =
                scope.spawn(move || merging.follow(self.intake.store, layers, &records));
            let unpacked = self.unpack(layer, input, Some(sender));
            (unpacked, following.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        // What is wrong with the bytes counts more than what they make of the tree.
        let unpacked = unpacked.and_then(|origin| merged.map(|()| origin));
        match &unpacked {
            Ok(origin) => merging.finish(layer.diff_id, origin.summary.data_blocks),
            Err(_) => *merging = Merging::default(),
        }
        unpacked
    }

    /// Completes the image when all layers are there: its documents and its disk. Layers that make no
    /// file tree are found now, and the first run finds its disk ready.
    ///
    /// # Errors
    /// If the layers make no tree, or the store cannot be written.
    pub fn complete(self, references: Vec<Reference>) -> Result<Complete, Error> {
        let intake = self.intake;
        let (mut layers, mut size) = (Vec::new(), 0_u64);
        let diff_ids = self.diff_ids();
        for layer in self.layers {
            let origin = layer.origin.into_inner().expect("every layer was taken");
            size = size.saturating_add(origin.summary.content_bytes);
            layers.push(LayerRecord {
                diff_id: layer.diff_id,
                blob: origin.blob,
                blob_size: origin.blob_size,
                media_type: origin.media_type,
            });
        }
        let id = intake.document(&self.config)?;
        let manifest = self.manifest.as_deref().map(|bytes| intake.document(bytes)).transpose()?;
        let record = Record { config: id, manifest, layers, size };
        let merging = self.merging.into_inner().expect("no thread panics with it");
        disk::ensure(intake.store, id, &record, || merging.complete(intake.store, &diff_ids))?;
        Ok(Complete { image: Loaded { id, references }, record })
    }
}

fn of_descriptor(origin: Origin, descriptor: &Descriptor) -> Origin {
    let media_type = descriptor.media_type.clone();
    Origin { blob: descriptor.digest, media_type, ..origin }
}
