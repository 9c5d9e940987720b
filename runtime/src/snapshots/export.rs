//! A snapshot as one file: a tar, compressed by zstd, with all that another host needs to go on from it.
//!
//! The document comes first, then the files, sparse, then the image as an OCI archive, and the digests of
//! all files last: what was cut off has none. `import` reads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use images::tar::{Entry, Kind, Segment, Timestamp, Writer};
use images::{Compressor, Digest, Hasher, Image, Output, SaveTarget, Store};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use vmm::config::SnapshotFiles;
use vmm::error::chain;

use super::error::SnapshotError;
use super::{BLANK, DESCRIPTION, Files, MEMORY, SCRATCH, STATE, Snapshot, Snapshots};
use crate::containers::files::file_error;
use crate::error::Error;
use crate::places::Places;
use crate::scratch::Ground;
use crate::transfer::fetch_blobs;

/// The members beside the snapshot's own files.
pub(super) const IMAGE: &str = "image.tar";
pub(super) const SUMS: &str = "sums.json";
/// The order of the files in the archive.
pub(super) const FILES: [&str; 4] = [STATE, MEMORY, SCRATCH, BLANK];
/// What is read at once.
const BUFFER: usize = 256 << 10;
/// Holes that are smaller than this are written as zeros, so that no file has too many pieces.
const SMALLEST_HOLE: u64 = 64 << 10;

/// What the archive is written to.
type Target<'a> = Compressor<BufWriter<&'a mut dyn Write>>;

/// Writes a snapshot to `output`. To be called by the process's first thread: layers of its image that were
/// not kept are fetched.
///
/// # Errors
/// When there is no such snapshot, its image is damaged, or the output cannot be written.
pub fn export(name: &str, places: &Places, output: &mut dyn Write) -> Result<(), Error> {
    let snapshot = Snapshots::of(places).find(name)?;
    let [state, memory, scratch] = snapshot.whole_files()?;
    let blank = snapshot.blank_path(places);
    let blank = File::open(&blank).map_err(file_error("open", &blank))?;
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    let image = store.find(&snapshot.description.container.image_id)?;
    if image.lacks_blobs() {
        fetch_blobs(&snapshot.description.container.image_id, places)?;
    }
    let _lock = image.lock()?;
    // What its disk lies over goes with it.
    let mut description = snapshot.description.clone();
    description.container.ground = Ground::Own;
    (description.parent, description.beneath) = (None, 0);
    let text = serde_json::to_vec(&description).expect("words and numbers are JSON");
    let mut archive = Archive::new(output).map_err(SnapshotError::Write)?;
    archive.document(DESCRIPTION, &text).map_err(SnapshotError::Write)?;
    for (name, file) in FILES.into_iter().zip([&state, &memory, &scratch, &blank]) {
        archive.file(name, file, &snapshot.folder)?;
    }
    archive.image(&store, &image)?;
    archive.end().map_err(SnapshotError::Write)?;
    snapshot.note("export", places, &[]);
    Ok(())
}

impl Snapshot {
    /// Its state, memory and writable disk, each as one file: those that lie over others are put together in
    /// files without a name.
    fn whole_files(&self) -> Result<[File; 3], Error> {
        let Files { machine, scratch } = self.open()?;
        let failed = |source| Error::System { action: "put a snapshot's files together", source };
        let copy = |file: &File| file.try_clone().map_err(failed);
        if self.description.beneath == 0 {
            let SnapshotFiles { state, memory, .. } = machine;
            let disk = scratch.files().next().expect("a disk lies in one file at least");
            return Ok([state, memory, copy(disk)?]);
        }
        let folder = self.folder.parent().unwrap_or(&self.folder);
        let new = || tempfile::tempfile_in(folder).map_err(file_error("create a file in", folder));
        let [mut state, memory, disk] = [new()?, new()?, new()?];
        vmm::flatten(machine, SnapshotFiles::new(copy(&state)?, copy(&memory)?)).map_err(
            |error| match error {
                vmm::SnapshotError::Write(source) => failed(source),
                damage => {
                    SnapshotError::Damaged { name: self.name.clone(), what: chain(&damage) }.into()
                }
            },
        )?;
        state.rewind().and_then(|()| scratch.copy_to(&disk)).map_err(failed)?;
        Ok([state, memory, disk])
    }
}

/// An archive that is being written.
struct Archive<'a> {
    writer: Writer<Target<'a>>,
    sums: BTreeMap<String, Digest>,
}

impl<'a> Archive<'a> {
    fn new(output: &'a mut dyn Write) -> io::Result<Self> {
        let output = Compressor::new(BufWriter::with_capacity(BUFFER, output))?;
        Ok(Self { writer: Writer::new(output), sums: BTreeMap::new() })
    }

    fn document(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        self.writer.file(name, text.len() as u64, Timestamp::default())?;
        self.writer.write_all(text)?;
        self.sums.insert(name.to_owned(), Digest::of(text));
        Ok(())
    }

    /// A file with its holes.
    fn file(&mut self, name: &str, file: &File, folder: &Path) -> Result<(), Error> {
        let path = folder.join(name);
        let unread = || file_error("read", &path);
        let size = file.metadata().map_err(unread())?.len();
        let segments = segments(file).map_err(unread())?;
        let entry = Entry {
            path: name.as_bytes().to_vec(),
            kind: Kind::SparseFile { size, segments: segments.clone() },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
        };
        self.writer.append(&entry).map_err(SnapshotError::Write)?;
        let mut sum = Hasher::default();
        let mut buffer = vec![0; BUFFER];
        for Segment { offset, length } in segments {
            add_place(&mut sum, offset, length);
            let (mut at, end) = (offset, offset + length);
            while at < end {
                let count = BUFFER.min(usize::try_from(end - at).unwrap_or(BUFFER));
                file.read_exact_at(&mut buffer[..count], at).map_err(unread())?;
                sum.update(&buffer[..count]);
                self.writer.write_all(&buffer[..count]).map_err(SnapshotError::Write)?;
                at += count as u64;
            }
        }
        self.sums.insert(name.to_owned(), sum.finish());
        Ok(())
    }

    /// The image under no name; its own digests tell whether it is whole. It is written twice, since an
    /// archive says first how large it is.
    fn image(&mut self, store: &Store, image: &Image) -> Result<(), Error> {
        let words = [image.id.to_string()];
        let save = |writer: &mut dyn Write| {
            let output = Output { writer, name: IMAGE };
            store.save(&words, SaveTarget::OciArchive(output))
        };
        let mut counter = Counter(0);
        save(&mut counter)?;
        self.writer.file(IMAGE, counter.0, Timestamp::default()).map_err(SnapshotError::Write)?;
        Ok(save(&mut self.writer)?)
    }

    fn end(mut self) -> io::Result<()> {
        let sums = std::mem::take(&mut self.sums);
        let text = serde_json::to_vec(&sums).expect("digests are JSON");
        self.document(SUMS, &text)?;
        self.writer.end()?;
        self.writer.into_output().finish()?.flush()
    }
}

/// Counts what is written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a piece of a file lies is part of the file's digest.
pub(super) fn add_place(sum: &mut Hasher, offset: u64, length: u64) {
    sum.update(&offset.to_le_bytes());
    sum.update(&length.to_le_bytes());
}

/// The pieces of a file without its large holes.
fn segments(file: &File) -> io::Result<Vec<Segment>> {
    let length = file.metadata()?.len();
    let (mut segments, mut end) = (Vec::<Segment>::new(), 0);
    loop {
        let start = match seek(file, SeekFrom::Data(end)) {
            Err(Errno::NXIO) => return Ok(segments),
            start => start?,
        };
        end = seek(file, SeekFrom::Hole(start))?.min(length);
        match segments.last_mut() {
            Some(last) if start - (last.offset + last.length) < SMALLEST_HOLE => {
                last.length = end - last.offset;
            }
            _ => segments.push(Segment { offset: start, length: end - start }),
        }
    }
}
