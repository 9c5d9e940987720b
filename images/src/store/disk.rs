//! The disk of an image: EROFS metadata made for its set of layers, then the data of each layer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{create_private_folder, failed, sync_folder};
use super::record::Record;
use super::{Store, StoreError};
use crate::digest::{Digest, Hasher};
use crate::erofs::{self, LayerData, WriteError};
use crate::error::Error;
use crate::layer::{BLOCK_SIZE, Next, Record as LayerEntry, RecordReader};
use crate::rootfs::Tree;

/// Changes whenever the writer's output does, so that old disks are not taken for new ones.
const WRITER_VERSION: &str = "erofs-4";

/// A read-only disk, as byte ranges of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// In the order of the disk: each begins where the one before it ends, the first at byte 0.
    pub extents: Vec<Extent>,
}

/// A range of a file. Offset and length are multiples of 4,096 bytes; the length is not zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The file.
    pub path: PathBuf,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Disk {
    /// Bytes of the whole disk.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }
}

/// The disk of an image.
pub(super) fn of(store: &Store, id: Digest, record: &Record) -> Result<Disk, Error> {
    let metadata = ensure(store, id, record, || merge(store, record))?;
    let (layers, _) = distinct_layers(record);
    let mut extents = Vec::new();
    let data = layers.iter().map(|layer| store.layer(*layer).join("data"));
    for path in std::iter::once(metadata).chain(data) {
        let length = fs::metadata(&path).map_err(failed("look at", &path))?.len();
        if length % BLOCK_SIZE != 0 {
            let source = io::Error::new(io::ErrorKind::InvalidData, "its length is no whole block");
            return Err(StoreError::Corrupt { path, source }.into());
        }
        if length > 0 {
            extents.push(Extent { path, offset: 0, length });
        }
    }
    Ok(Disk { extents })
}

/// Makes sure that the disk's metadata is there, and gives its path; `merged` is asked only if not.
pub(super) fn ensure(
    store: &Store,
    id: Digest,
    record: &Record,
    merged: impl FnOnce() -> Result<Merged, Error>,
) -> Result<PathBuf, Error> {
    let metadata = store.disks().join(key(record).hex()).join("meta.erofs");
    if !metadata.try_exists().map_err(failed("look for", &metadata))? {
        let _busy = store.lock_shared()?;
        build(store, id, record, merged()?, &metadata)?;
    }
    Ok(metadata)
}

/// What names the disk: the writer and the layers, nothing else of the image.
pub(super) fn key(record: &Record) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(WRITER_VERSION.as_bytes());
    for layer in &record.layers {
        hasher.update(layer.diff_id.to_string().as_bytes());
    }
    hasher.finish()
}

/// Each layer once, and for each layer of the image its place among those.
fn distinct_layers(record: &Record) -> (Vec<Digest>, Vec<usize>) {
    let mut places = BTreeMap::new();
    let (mut distinct, mut data_of) = (Vec::new(), Vec::new());
    for layer in &record.layers {
        let place = *places.entry(layer.diff_id).or_insert_with(|| {
            distinct.push(layer.diff_id);
            distinct.len() - 1
        });
        data_of.push(place);
    }
    (distinct, data_of)
}

/// An image's layers as one tree, and the blocks of each layer's data.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) tree: Tree,
    blocks: BTreeMap<Digest, u32>,
}

impl Merged {
    /// Puts layer `number`, which is in the store, on top of those below it.
    pub(super) fn add(&mut self, store: &Store, number: usize, layer: Digest) -> Result<(), Error> {
        let path = store.layer(layer).join("tree");
        let corrupt = |source| StoreError::Corrupt { path: path.clone(), source };
        let file = File::open(&path).map_err(failed("open", &path))?;
        let input = BufReader::with_capacity(128 << 10, file);
        let mut records = RecordReader::new(input).map_err(corrupt)?;
        loop {
            match records.read().map_err(corrupt)? {
                Next::Record(record) => self.apply(number, layer, record)?,
                Next::End(summary) => {
                    self.note_blocks(layer, summary.data_blocks);
                    return Ok(());
                }
            }
        }
    }

    /// Puts one record of layer `number` on top.
    pub(super) fn apply(
        &mut self,
        number: usize,
        layer: Digest,
        record: LayerEntry,
    ) -> Result<(), Error> {
        self.tree.apply(number, record).map_err(|source| Error::Merge { layer, source })
    }

    /// Keeps how many blocks the layer's data has.
    pub(super) fn note_blocks(&mut self, layer: Digest, data_blocks: u32) {
        self.blocks.insert(layer, data_blocks);
    }
}

/// Merges the layers of an image.
pub(super) fn merge(store: &Store, record: &Record) -> Result<Merged, Error> {
    let mut merged = Merged::default();
    for (number, layer) in record.layers.iter().enumerate() {
        merged.add(store, number, layer.diff_id)?;
    }
    Ok(merged)
}

/// Writes the disk's metadata to a new file.
pub(super) fn write(
    store: &Store,
    merged: Merged,
    id: Digest,
    record: &Record,
    path: &Path,
) -> Result<(), Error> {
    let Merged { mut tree, blocks } = merged;
    tree.furnish();
    let (layers, data_of) = distinct_layers(record);
    let layer_blocks: Vec<u32> = layers.iter().map(|layer| blocks[layer]).collect();
    let write_failed = failed("write", path);
    let file = File::create(path).map_err(&write_failed)?;
    let output = BufWriter::with_capacity(256 << 10, &file);
    let data_path = |layer: usize| store.layer(record.layers[layer].diff_id).join("data");
    let mut open: Option<(usize, File)> = None;
    let mut read = |layer: usize, offset: u64, buffer: &mut [u8]| {
        let file = match open.take() {
            Some((number, file)) if number == layer => file,
            _ => File::open(data_path(layer))?,
        };
        file.read_exact_at(buffer, offset)?;
        open = Some((layer, file));
        Ok(())
    };
    let data = LayerData { blocks: &layer_blocks, of: &data_of, read: &mut read };
    match erofs::write(&tree, data, key(record).uuid(), output) {
        Ok(()) => {}
        Err(WriteError::Read(layer, error)) => {
            return Err(failed("read", &data_path(layer))(error).into());
        }
        Err(WriteError::Io(error)) => return Err(write_failed(error).into()),
        Err(WriteError::TooLarge) => return Err(Error::DiskTooLarge { image: id.short() }),
    }
    Ok(file.sync_all().map_err(&write_failed)?)
}

fn build(
    store: &Store,
    id: Digest,
    record: &Record,
    merged: Merged,
    metadata: &Path,
) -> Result<(), Error> {
    let folder = tempfile::tempdir_in(store.temporary())
        .map_err(failed("create a folder in", &store.temporary()))?;
    let path = folder.path().join("meta.erofs");
    write(store, merged, id, record, &path)?;
    let home = metadata.parent().unwrap_or(metadata);
    create_private_folder(home)?;
    // Two builders write the same bytes: whoever renames last changes nothing.
    fs::rename(&path, metadata).map_err(failed("write", metadata))?;
    sync_folder(home)?;
    Ok(sync_folder(&store.disks())?)
}
