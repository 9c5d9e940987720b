//! Unpacks one layer in one pass: read, hash, decompress, hash, cut into entries, write.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::mem;
use std::panic::resume_unwind;
use std::sync::mpsc::SyncSender;
use std::thread::{self, Scope, ScopedJoinHandle};

use super::ahead::{Ahead, ahead};
use super::budget::Budget;
use super::data::{CopyError, DataWriter, SPARSE_LIMIT};
use super::path::split;
use super::record::{Content, FileData, Metadata, Record, RecordWriter, Summary};
use super::stream::{Plain, Tee};
use super::writeback::Writeback;
use super::{BLOCK_SIZE, LayerError};
use crate::compression::Decoder;
use crate::digest::Digest;
use crate::erofs;
use crate::limits::Excess;
use crate::tar::{Entry, Kind, Reader, Segment, Xattrs};

/// Bytes of records that are written at once.
const TREE_BUFFER: usize = 128 << 10;

/// Records that are passed on at once: waking a thread for each would cost more than to merge it.
const BATCH: usize = 256;

/// Where an unpacked layer goes, and where a copy of its bytes goes if one is wanted.
pub(crate) struct Outputs {
    pub(crate) data: File,
    pub(crate) tree: File,
    pub(crate) blob: Option<File>,
    /// Where the layer's records go as well, if somebody merges them meanwhile.
    pub(crate) records: Option<SyncSender<Vec<Record>>>,
}

/// What the image says that the layer is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Digest of the uncompressed stream.
    pub(crate) diff_id: Digest,
    /// Digest of the bytes as they come; Docker archives do not say.
    pub(crate) blob: Option<Digest>,
}

/// A layer's blob and sizes after it was unpacked. The caller syncs and renames the files.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) blob: Digest,
    pub(crate) blob_size: u64,
    pub(crate) media_type: &'static str,
    pub(crate) summary: Summary,
}

/// Unpacks the layer in `input`, to the end of the stream, and checks its digests. Three threads work
/// side by side: one reads, hashes and keeps the blob, one decompresses, and this one does the rest.
pub(crate) fn unpack(
    input: impl Read + Send,
    expected: Expected,
    outputs: &Outputs,
    budget: &Budget,
) -> Result<Unpacked, LayerError> {
    let (blob, result) = read(input, outputs, budget)?;
    check(blob, expected, result)
}

/// Unpacks a tar of which nobody has said what it is; gives the digest of its uncompressed stream as
/// well.
pub(crate) fn unpack_unnamed(
    input: impl Read + Send,
    outputs: &Outputs,
    budget: &Budget,
) -> Result<(Digest, Unpacked), LayerError> {
    let ((blob, blob_size), result) = read(input, outputs, budget)?;
    let Stream { diff_id, media_type, summary } = result?;
    Ok((diff_id, Unpacked { blob, blob_size, media_type, summary }))
}

/// A blob's digest and length, and what the stream in it was.
type BlobAndStream = ((Digest, u64), Result<Stream, LayerError>);

/// Reads the blob to its end; gives its digest and length, and what became of the stream in it.
fn read(
    input: impl Read + Send,
    outputs: &Outputs,
    budget: &Budget,
) -> Result<BlobAndStream, LayerError> {
    thread::scope(|scope| {
        let copy = outputs.blob.as_ref();
        let writeback = copy.map(|file| Writeback::start(scope, file)).transpose();
        let (writeback, written) = writeback.map_err(LayerError::Write)?.unzip();
        let (blob, tee) = ahead(scope, Tee::new(input, copy, writeback));
        let result = match Decoder::new(blob, &budget.windows) {
            Ok(decoder) => unpack_stream(scope, decoder, outputs, budget),
            Err(error) => Err(LayerError::Decompress(error)),
        };
        let tee = join(tee);
        let blob = tee.finish().map_err(LayerError::Write)?;
        written.map_or(Ok(()), join).map_err(LayerError::Write)?;
        Ok((blob, result))
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Compares what was read with what it was to be.
fn check(
    (blob, blob_size): (Digest, u64),
    expected: Expected,
    result: Result<Stream, LayerError>,
) -> Result<Unpacked, LayerError> {
    // Bytes that make no sense are most likely not the right bytes: that is then the error.
    let trust_digest = result.as_ref().map_or_else(LayerError::is_in_the_bytes, |_| true);
    if let Some(expected) = expected.blob.filter(|expected| trust_digest && *expected != blob) {
        return Err(LayerError::BlobDigest { expected, actual: blob });
    }
    let Stream { diff_id, media_type, summary } = result?;
    if diff_id != expected.diff_id {
        return Err(LayerError::DiffId { expected: expected.diff_id, actual: diff_id });
    }
    Ok(Unpacked { blob, blob_size, media_type, summary })
}

/// What the uncompressed stream was.
struct Stream {
    diff_id: Digest,
    media_type: &'static str,
    summary: Summary,
}

fn unpack_stream<'scope>(
    scope: &'scope Scope<'scope, '_>,
    decoder: Decoder<Ahead>,
    outputs: &Outputs,
    budget: &Budget,
) -> Result<Stream, LayerError> {
    let media_type = decoder.compression().layer_media_type();
    let (input, decoder) = ahead(scope, decoder);
    let mut plain = Plain::new(input, budget);
    let (writeback, written) = Writeback::start(scope, &outputs.data).map_err(LayerError::Write)?;
    let mut unpacked = entries(&mut plain, outputs, writeback, budget);
    if plain.is_exceeded() {
        unpacked = Err(budget.bytes_exceeded());
    }
    let diff_id = plain.finish();
    let mut decoder = join(decoder);
    join(written).map_err(LayerError::Write)?;
    if decoder.is_refused() {
        unpacked = Err(Budget::window_exceeded());
    }
    match &unpacked {
        // Bytes behind the compressed stream belong to the blob and to its digest.
        Ok(_) => decoder.drain().map_err(LayerError::Decompress)?,
        // The digest of the whole blob says whether these were the right bytes at all.
        Err(error) if error.is_in_the_bytes() => drop(decoder.drain()),
        Err(_) => {}
    }
    Ok(Stream { diff_id, media_type, summary: unpacked? })
}

fn entries(
    plain: &mut impl Read,
    outputs: &Outputs,
    writeback: Writeback,
    budget: &Budget,
) -> Result<Summary, LayerError> {
    let mut reader = Reader::new(plain);
    let mut data =
        DataWriter::new(outputs.data.try_clone().map_err(LayerError::Write)?, Some(writeback));
    let tree = BufWriter::with_capacity(TREE_BUFFER, &outputs.tree);
    let mut tree = RecordWriter::new(tree).map_err(LayerError::Write)?;
    let mut batch = Batch { records: Vec::new(), listener: outputs.records.as_ref() };
    let mut content_bytes = 0_u64;
    let mut metadata_bytes = 0;
    while let Some(entry) = reader.next_entry()? {
        budget.take_entry()?;
        let Some(record) = record(entry, &mut reader, &mut data)? else { continue };
        if let Content::File { size, .. } = record.content {
            content_bytes = content_bytes.saturating_add(size);
        }
        let written = tree.push(&record).map_err(LayerError::Write)?;
        budget.take_metadata(written - metadata_bytes)?;
        metadata_bytes = written;
        batch.push(record);
    }
    batch.send();
    reader.drain()?;
    let data_blocks = match data.finish() {
        Ok((_, blocks)) => blocks,
        Err(error) => return Err(copy_error(error, "the end of the layer")),
    };
    let (mut tree, summary) = tree.finish(data_blocks, content_bytes).map_err(LayerError::Write)?;
    tree.flush().map_err(LayerError::Write)?;
    Ok(summary)
}

/// Records on their way to whoever merges them.
struct Batch<'a> {
    records: Vec<Record>,
    listener: Option<&'a SyncSender<Vec<Record>>>,
}

impl Batch<'_> {
    fn push(&mut self, record: Record) {
        if self.listener.is_some() {
            self.records.push(record);
            if self.records.len() == BATCH {
                self.send();
            }
        }
    }

    fn send(&mut self) {
        if let Some(listener) = self.listener {
            // A merge that has failed listens no more, and says why itself.
            let _ = listener.send(mem::take(&mut self.records));
        }
    }
}

/// Turns an entry into a record and takes its content out of the stream; `None` skips the entry.
fn record<R: Read>(
    entry: Entry,
    reader: &mut Reader<R>,
    data: &mut DataWriter,
) -> Result<Option<Record>, LayerError> {
    let shown = || String::from_utf8_lossy(&entry.path).into_owned();
    let components = split(&entry.path)?;
    if let Some(whiteout) = whiteout(&components, &entry.path)? {
        return Ok(whiteout);
    }
    let metadata = Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: kept_xattrs(entry.xattrs.clone(), shown)?,
    };
    let content = match &entry.kind {
        Kind::File { size } => {
            let copied = match erofs::head(&metadata, *size) {
                Some(head) => data.append_packed(&head, reader, *size),
                None => data.append(reader, *size),
            };
            let data = copied.map_err(|error| copy_error(error, &shown()))?;
            Content::File { size: *size, data }
        }
        Kind::SparseFile { size, segments } => {
            let data = sparse(reader, data, *size, segments, &shown())?;
            Content::File { size: *size, data }
        }
        Kind::Directory => Content::Directory,
        Kind::Symlink { target } if target.is_empty() => {
            return Err(LayerError::Invalid { entry: shown(), field: "link target: it is empty" });
        }
        Kind::Symlink { target } => Content::Symlink { target: target.clone() },
        Kind::HardLink { target } => {
            let target = split(target)?;
            Content::HardLink { target: target.join(&b'/') }
        }
        Kind::CharDevice { major, minor } => {
            check_device(*major, *minor, shown)?;
            Content::CharDevice { major: *major, minor: *minor }
        }
        Kind::BlockDevice { major, minor } => {
            check_device(*major, *minor, shown)?;
            Content::BlockDevice { major: *major, minor: *minor }
        }
        Kind::Fifo => Content::Fifo,
        // A volume label and GNU tar's list of a folder's names say nothing about the tree;
        // star and libarchive write sockets as `s` or not at all.
        Kind::Other { flag: b'V' | b'D' | b's' } => return Ok(None),
        Kind::Other { flag } => {
            return Err(LayerError::UnknownKind { entry: shown(), flag: char::from(*flag) });
        }
    };
    if components.is_empty() && content != Content::Directory {
        return Err(LayerError::Invalid { entry: shown(), field: "kind: the root is a directory" });
    }
    Ok(Some(Record { path: components.join(&b'/'), content, metadata }))
}

fn sparse<R: Read>(
    reader: &mut Reader<R>,
    data: &mut DataWriter,
    size: u64,
    segments: &[Segment],
    entry: &str,
) -> Result<FileData, LayerError> {
    if size > SPARSE_LIMIT {
        let field = "size: sparse files end at 16 TiB";
        return Err(LayerError::Invalid { entry: entry.to_owned(), field });
    }
    data.append_sparse(reader, size, segments).map_err(|error| copy_error(error, entry))
}

/// OCI image-spec, layer.md, "Whiteouts". `Some(None)` is one of AUFS's own files, which vanish.
fn whiteout(components: &[&[u8]], path: &[u8]) -> Result<Option<Option<Record>>, LayerError> {
    let Some((name, parents)) = components.split_last() else { return Ok(None) };
    let Some(hidden) = name.strip_prefix(b".wh.") else { return Ok(None) };
    let metadata = Metadata::default();
    if hidden == b".wh..opq" {
        let path = parents.join(&b'/');
        return Ok(Some(Some(Record { path, content: Content::Opaque, metadata })));
    }
    if hidden.starts_with(b".wh.") {
        return Ok(Some(None));
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(LayerError::Name { entry: String::from_utf8_lossy(path).into_owned() });
    }
    let path = [parents, &[hidden]].concat().join(&b'/');
    Ok(Some(Some(Record { path, content: Content::Whiteout, metadata })))
}

/// Linux's `dev_t`: 12 bits of major, 20 of minor.
fn check_device(major: u32, minor: u32, entry: impl Fn() -> String) -> Result<(), LayerError> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(LayerError::Invalid { entry: entry(), field: "device number" });
    }
    Ok(())
}

/// Keeps what EROFS can hold. `trusted.overlay.*` steers the overlay of whoever runs the image and
/// is no part of it; other namespaces are those of other systems, and Docker drops them as well.
fn kept_xattrs(mut xattrs: Xattrs, entry: impl Fn() -> String) -> Result<Xattrs, LayerError> {
    xattrs.retain(|(name, _)| {
        let known = [&b"user."[..], b"trusted.", b"security."]
            .iter()
            .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
        let acl = name == b"system.posix_acl_access" || name == b"system.posix_acl_default";
        (known && !name.starts_with(b"trusted.overlay.")) || acl
    });
    let fits = |(name, value): &(Vec<u8>, Vec<u8>)| {
        name.len() <= 255 && !name.contains(&0) && u16::try_from(value.len()).is_ok()
    };
    // What one inode can name: 65,535 units of four bytes, EROFS's i_xattr_icount.
    let total: usize = xattrs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    if !xattrs.iter().all(fits) || total > 4 * 65_000 {
        return Err(LayerError::Invalid { entry: entry(), field: "extended attribute" });
    }
    Ok(xattrs)
}

fn copy_error(error: CopyError, entry: &str) -> LayerError {
    match error {
        CopyError::Read(source) => LayerError::Content { entry: entry.to_owned(), source },
        CopyError::Write(source) => LayerError::Write(source),
        CopyError::Full => {
            LayerError::Limit { what: Excess::FileBytes, limit: u64::from(u32::MAX) * BLOCK_SIZE }
        }
    }
}
