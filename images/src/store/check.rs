//! `system check`: whether the store is whole, and what in it no image needs.

mod full;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::files::{invalid, names_in};
use super::keep::Origin;
use super::record::Record;
use super::{Store, StoreError, disk};
use crate::config::ImageConfig;
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::layer::{BLOCK_SIZE, Next, RecordReader};
use full::Trouble;

/// How closely the store is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every file is there, has its length and its format; documents have their digests.
    Files,
    /// Every blob is hashed as well, every layer is unpacked again and compared, and the metadata of
    /// every disk is made again and compared.
    Contents,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Images, layers and blobs that were looked at.
    pub images: usize,
    /// Layers of those images.
    pub layers: usize,
    /// Their blobs.
    pub blobs: usize,
    /// What is wrong. The store is whole if this is empty.
    pub damaged: Vec<Damage>,
    /// What no image needs; `None` if others were adding to the store, so that it cannot be told.
    pub unused: Option<Vec<PathBuf>>,
}

/// A file of the store that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Store {
    /// Looks through the store and changes nothing in it. Others may use it meanwhile.
    ///
    /// # Errors
    /// If the store cannot be read at all. What is damaged is a finding, not an error.
    pub fn check(&self, depth: Depth) -> Result<Findings, Error> {
        let unused = match self.try_lock_exclusive()? {
            Some(_alone) => Some(self.unused()?),
            None => None,
        };
        // From here on nothing is removed that an image needs, until this is done.
        let _busy = self.lock_shared()?;
        let mut check = Check {
            store: self,
            depth,
            findings: Findings { unused, ..Findings::default() },
            layers: BTreeMap::new(),
            blobs: BTreeSet::new(),
            failure: None,
        };
        check.names();
        for id in self.ids()? {
            check.image(id);
        }
        if let Some(error) = check.failure {
            return Err(error);
        }
        check.findings.layers = check.layers.len();
        check.findings.blobs = check.blobs.len();
        Ok(check.findings)
    }

    /// What lies in the store and belongs to no image.
    fn unused(&self) -> Result<Vec<PathBuf>, Error> {
        let mut needed = BTreeSet::new();
        for id in self.ids()? {
            // A damaged record may need anything: nothing is called unused then.
            let Ok(records) = self.read_records(id) else { return Ok(Vec::new()) };
            needed.extend(records.iter().flat_map(|record| self.needed_by(record)));
        }
        let mut unused = Vec::new();
        for folder in [self.blobs(), self.layers(), self.disks(), self.temporary()] {
            let paths = names_in(&folder)?.into_iter().map(|name| folder.join(name));
            unused.extend(paths.filter(|path| !needed.contains(path)));
        }
        Ok(unused)
    }

    fn needed_by(&self, record: &Record) -> BTreeSet<PathBuf> {
        let mut needed =
            BTreeSet::from([self.blob(record.config), self.disks().join(disk::key(record).hex())]);
        needed.extend(record.manifest.map(|manifest| self.blob(manifest)));
        for layer in &record.layers {
            needed.insert(self.blob(layer.blob));
            needed.insert(self.layer(layer.diff_id));
        }
        needed
    }
}

struct Check<'a> {
    store: &'a Store,
    depth: Depth,
    findings: Findings,
    /// Layers that were looked at, and whether each is whole.
    layers: BTreeMap<Digest, bool>,
    blobs: BTreeSet<Digest>,
    /// Why the check itself could not go on, as on a full disk.
    failure: Option<Error>,
}

impl Check<'_> {
    fn damaged(&mut self, path: &Path, reason: impl ToString) {
        let (path, reason) = (path.to_owned(), reason.to_string());
        self.findings.damaged.push(Damage { path, reason });
    }

    /// Notes what went wrong, if anything did; says whether nothing did.
    fn judge(&mut self, path: &Path, result: io::Result<()>) -> bool {
        let is_whole = result.is_ok();
        if let Err(error) = result {
            self.damaged(path, error);
        }
        is_whole
    }

    /// Names that lead to no image are left behind by a kill and count for nothing; see `take_names`.
    fn names(&mut self) {
        if let Err(error) = self.store.read_names() {
            self.damaged(&self.store.root.join("names.json"), chain(&error));
        }
    }

    fn image(&mut self, id: Digest) {
        let path = self.store.record_path(id);
        let records = match self.store.read_records(id) {
            Ok(records) => records,
            Err(StoreError::Corrupt { path, source }) => return self.damaged(&path, source),
            Err(error) => return self.damaged(&path, chain(&error)),
        };
        // Without any, it was removed meanwhile.
        self.findings.images += usize::from(!records.is_empty());
        for record in records {
            if record.config != id {
                self.damaged(&path, "it speaks of another image");
            }
            self.recorded(id, &record);
        }
    }

    /// What a record says that an image is made of.
    fn recorded(&mut self, id: Digest, record: &Record) {
        self.configuration(record);
        if let Some(manifest) = record.manifest {
            self.blobs.insert(manifest);
            let path = self.store.blob(manifest);
            let result = self.document(manifest).map(drop);
            self.judge(&path, result);
        }
        let mut is_whole = true;
        for layer in &record.layers {
            is_whole &= self.layer(layer.diff_id);
            is_whole &= self.blob(layer.blob, layer.blob_size, layer.diff_id);
        }
        if is_whole {
            self.disk(id, record);
        }
    }

    fn configuration(&mut self, record: &Record) {
        self.blobs.insert(record.config);
        let path = self.store.blob(record.config);
        let result = self.document(record.config).and_then(|bytes| {
            let config = ImageConfig::parse(&bytes).map_err(io::Error::other)?;
            let layers: Vec<Digest> = record.layers.iter().map(|layer| layer.diff_id).collect();
            let same = config.diff_ids == layers;
            if same { Ok(()) } else { Err(invalid("its layers are not those of the record")) }
        });
        self.judge(&path, result);
    }

    /// A document with the digest it goes by.
    fn document(&self, digest: Digest) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.store.blob(digest))?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(wrong_digest()) }
    }

    fn layer(&mut self, diff_id: Digest) -> bool {
        if let Some(is_whole) = self.layers.get(&diff_id) {
            return *is_whole;
        }
        let folder = self.store.layer(diff_id);
        let mut is_whole = true;
        for (name, result) in
            [("origin.json", origin(&folder).map(drop)), ("tree", layer_tree(&folder))]
        {
            is_whole &= self.judge(&folder.join(name), result);
        }
        self.layers.insert(diff_id, is_whole);
        is_whole
    }

    fn blob(&mut self, digest: Digest, size: u64, layer: Digest) -> bool {
        let path = self.store.blob(digest);
        if !path.try_exists().unwrap_or(true) {
            // It was not kept when the layer came (`keep-blobs = false`).
            return true;
        }
        let is_new = self.blobs.insert(digest);
        let length = fs::metadata(&path).and_then(|metadata| match metadata.len() == size {
            true => Ok(()),
            false => Err(invalid("it does not have the length that its image says")),
        });
        if !is_new {
            return length.is_ok();
        }
        let is_whole = self.judge(&path, length);
        if is_whole && self.depth == Depth::Contents {
            let result = full::hash(&path, digest);
            if !self.judge(&path, result) {
                return false;
            }
            let compared = full::compare_layer(self.store, layer, digest);
            return self.judge_comparison(compared);
        }
        is_whole
    }

    fn judge_comparison(&mut self, result: Result<(), Trouble>) -> bool {
        match result {
            Ok(()) => true,
            Err(Trouble::Damaged(path, error)) => self.judge(&path, Err(error)),
            Err(Trouble::Failed(error)) => {
                self.failure.get_or_insert(error);
                false
            }
        }
    }

    fn disk(&mut self, id: Digest, record: &Record) {
        let path = self.store.disks().join(disk::key(record).hex()).join("meta.erofs");
        if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // An image that another version has loaded gets its disk when it is used.
            return;
        }
        let result = superblock(&path);
        if self.judge(&path, result) && self.depth == Depth::Contents {
            let compared = full::compare_disk(self.store, id, record, &path);
            self.judge_comparison(compared);
        }
    }
}

fn origin(folder: &Path) -> io::Result<Origin> {
    let bytes = fs::read(folder.join("origin.json"))?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Reads a layer's records to their end, and compares what they come to with the data file.
fn layer_tree(folder: &Path) -> io::Result<()> {
    let file = File::open(folder.join("tree"))?;
    let mut records = RecordReader::new(BufReader::with_capacity(128 << 10, file))?;
    let summary = loop {
        if let Next::End(summary) = records.read()? {
            break summary;
        }
    };
    if origin(folder).is_ok_and(|origin| origin.summary != summary) {
        return Err(invalid("it is not the tree that origin.json speaks of"));
    }
    let length = fs::metadata(folder.join("data"))?.len();
    if length != u64::from(summary.data_blocks) * BLOCK_SIZE {
        return Err(invalid("data does not have the length that it says"));
    }
    Ok(())
}

/// The superblock of a disk has the right checksum; see `erofs/format.rs`.
fn superblock(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() % BLOCK_SIZE != 0 {
        return Err(invalid("its length is no whole block"));
    }
    let mut block = vec![0; 4096];
    file.read_exact(&mut block)?;
    if crate::erofs::superblock_is_whole(&block) {
        return Ok(());
    }
    Err(invalid("its superblock has a wrong checksum"))
}

fn wrong_digest() -> io::Error {
    invalid("its digest is not the one it goes by")
}

/// An error with its causes, without the path that stands in front of it anyway.
fn chain(error: &super::StoreError) -> String {
    match error {
        super::StoreError::Corrupt { source, .. } => source.to_string(),
        other => {
            let source = std::error::Error::source(other);
            source.map_or_else(|| other.to_string(), ToString::to_string)
        }
    }
}

/// Hashes a file.
fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
