//! Takes a snapshot in that was exported, perhaps elsewhere, perhaps by a stranger: all of it is checked
//! before anybody finds it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use images::tar::{Entry, Kind, Reader, Segment};
use images::{Digest, Hasher, Limits, LoadSource, Store};

use super::description::Description;
use super::error::SnapshotError;
use super::export::{FILES, IMAGE, SUMS, add_place};
use super::{
    BLANK, DESCRIPTION, MAX_DESCRIPTION_BYTES, MEMORY, SCRATCH, STATE, Snapshot, SnapshotName,
    Snapshots, Unfinished,
};
use crate::containers::files::file_error;
use crate::error::Error;
use crate::places::Places;
use crate::scratch::Ground;

/// The most that a machine's state takes, and digests, in bytes.
const MAX_STATE_BYTES: u64 = 8 << 20;
const MAX_SUMS_BYTES: u64 = 64 << 10;
/// What is read at once.
const BUFFER: usize = 64 << 10;
/// The grain in which zeros stay holes.
const PAGE: usize = 4096;

/// Reads an exported snapshot and keeps it, under its own name or another one; with its image, if that is
/// not here.
///
/// # Errors
/// When it is none, damaged, or of no use on this host, or the name is in use; nothing is left then.
pub fn import(
    input: impl Read,
    name: Option<&SnapshotName>,
    places: &Places,
) -> Result<Snapshot, Error> {
    let unreadable = |error: io::Error| SnapshotError::NotExported { what: error.to_string() };
    let mut members =
        Members { reader: images::tar::read(input).map_err(unreadable)?, sums: BTreeMap::new() };
    let (mut description, name) = members.description(name)?;
    description.name = name.to_string();
    (description.parent, description.beneath) = (None, 0);
    description.container.ground = Ground::Own;
    let unfinished = Snapshots::of(places).begin(&name)?;
    for file in FILES {
        members.file(file, &description, &unfinished)?;
    }
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    let id = description.container.image_id.parse().expect("it was checked");
    let is_here = store.find(&description.container.image_id).is_ok();
    let archive = unfinished.folder().join(IMAGE);
    members.image(is_here, &unfinished)?;
    members.check_sums()?;
    let snapshot = unfinished.described(description);
    snapshot.open()?;
    if !is_here {
        store.load_nameless(LoadSource::Path(archive.clone()), id, &Limits::DEFAULT)?;
        fs::remove_file(&archive).map_err(file_error("remove", &archive))?;
    }
    let image = store.find(&snapshot.description.container.image_id)?;
    let _lock = image.lock()?;
    snapshot.description.check_disk(&snapshot.name, &image, places)?;
    let snapshot = unfinished.publish(snapshot.description)?;
    snapshot.note("import", places, &[]);
    Ok(snapshot)
}

/// The members of an archive, one after the other.
struct Members<R> {
    reader: Reader<R>,
    /// The digests of those that were read.
    sums: BTreeMap<String, Digest>,
}

impl<R: Read> Members<R> {
    /// The document, and the name of what is to be made.
    fn description(
        &mut self,
        name: Option<&SnapshotName>,
    ) -> Result<(Description, SnapshotName), Error> {
        let text = self.document(DESCRIPTION, MAX_DESCRIPTION_BYTES)?;
        self.sums.insert(DESCRIPTION.to_owned(), Digest::of(&text));
        let shown = name.map_or("in the archive", SnapshotName::as_str);
        let description = match Description::parse(&text, shown) {
            Err(SnapshotError::Damaged { what, .. }) => return Err(refused(&what).into()),
            parsed => parsed?,
        };
        description.check_sense().map_err(refused)?;
        let own = || description.name.parse().map_err(|_| refused("its name is none"));
        let name = name.cloned().map_or_else(own, Ok)?;
        description.check_host(name.as_str())?;
        Ok((description, name))
    }

    fn file(
        &mut self,
        name: &'static str,
        description: &Description,
        unfinished: &Unfinished,
    ) -> Result<(), Error> {
        let entry = self.next(name)?;
        let (size, segments) = match entry.kind {
            Kind::SparseFile { size, segments } => (size, segments),
            Kind::File { size } => (size, vec![Segment { offset: 0, length: size }]),
            _ => return Err(refused(&format!("{name} is no file")).into()),
        };
        let disk = description.container.scratch.bytes();
        let fits = match name {
            STATE => size <= MAX_STATE_BYTES,
            MEMORY => size == description.memory_bytes(),
            BLANK => size == disk,
            // A little more than the disk: which of its blocks are there is written before them.
            _ => size <= disk + disk / 1024 + (1 << 20),
        };
        if !fits {
            return Err(refused(&format!("{name} has another size than its machine")).into());
        }
        let file = unfinished.create(name)?;
        let path = unfinished.folder().join(name);
        file.set_len(size).map_err(file_error("write", &path))?;
        let mut sum = Hasher::default();
        for segment in segments {
            add_place(&mut sum, segment.offset, segment.length);
            self.fill(&file, segment, &mut sum).map_err(|failure| failure.of(name, &path))?;
        }
        if [MEMORY, SCRATCH].contains(&name) {
            // As that of one that was made here, its date tells whether anybody has written to it later.
            let sealed = file.set_modified(SystemTime::UNIX_EPOCH);
            sealed.map_err(file_error("write", &path))?;
        }
        self.sums.insert(name.to_owned(), sum.finish());
        Ok(())
    }

    /// Puts a piece of a file where it belongs; zeros stay holes.
    fn fill(&mut self, file: &File, piece: Segment, sum: &mut Hasher) -> Result<(), Failure> {
        let (mut at, end) = (piece.offset, piece.offset.saturating_add(piece.length));
        let mut buffer = vec![0; BUFFER];
        while at < end {
            let count = BUFFER.min(usize::try_from(end - at).unwrap_or(BUFFER));
            self.reader.read_exact(&mut buffer[..count]).map_err(Failure::Read)?;
            sum.update(&buffer[..count]);
            for page in buffer[..count].chunks(PAGE) {
                if page.iter().any(|byte| *byte != 0) {
                    file.write_all_at(page, at).map_err(Failure::Write)?;
                }
                at += page.len() as u64;
            }
        }
        Ok(())
    }

    /// The image's archive, unless the image is here.
    fn image(&mut self, is_here: bool, unfinished: &Unfinished) -> Result<(), Error> {
        let entry = self.next(IMAGE)?;
        let Kind::File { size } = entry.kind else {
            return Err(refused("the image is no file").into());
        };
        if size > Limits::DEFAULT.max_unpacked_bytes {
            return Err(refused("its image is too large").into());
        }
        if is_here {
            return Ok(());
        }
        let file = unfinished.create(IMAGE)?;
        let path = unfinished.folder().join(IMAGE);
        file.set_len(size).map_err(file_error("write", &path))?;
        self.fill(&file, Segment { offset: 0, length: size }, &mut Hasher::default())
            .map_err(|failure| failure.of(IMAGE, &path))
    }

    /// Whether all files are those that were exported, and the archive is whole.
    fn check_sums(&mut self) -> Result<(), Error> {
        let text = self.document(SUMS, MAX_SUMS_BYTES)?;
        let known: BTreeMap<String, Digest> =
            serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
        for (name, sum) in &self.sums {
            if known.get(name) != Some(sum) {
                return Err(damaged(&format!("{name} has another digest")).into());
            }
        }
        if self.reader.next_entry().map_err(SnapshotError::Read)?.is_some() {
            return Err(refused("there is more in it").into());
        }
        Ok(self.reader.drain().map_err(SnapshotError::Read)?)
    }

    fn document(&mut self, name: &'static str, most: u64) -> Result<Vec<u8>, Error> {
        let entry = self.next(name)?;
        if !matches!(entry.kind, Kind::File { size } if size <= most) {
            return Err(refused(&format!("{name} is too large, or no file")).into());
        }
        let mut text = Vec::new();
        self.reader.read_to_end(&mut text).map_err(|error| damaged(&format!("{name}: {error}")))?;
        Ok(text)
    }

    /// The next member, which must be this one.
    fn next(&mut self, name: &'static str) -> Result<Entry, Error> {
        match self.reader.next_entry().map_err(SnapshotError::Read)? {
            Some(entry) if entry.path == name.as_bytes() => Ok(entry),
            Some(_) => Err(refused(&format!("{name} is not where it must be")).into()),
            None if self.sums.is_empty() => Err(refused("it is empty").into()),
            None => Err(damaged("it is cut off").into()),
        }
    }
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
}

impl Failure {
    /// What failed with this member, whose place is there.
    fn of(self, name: &str, path: &Path) -> Error {
        match self {
            Self::Read(error) => damaged(&format!("{name}: {error}")).into(),
            Self::Write(error) => file_error("write", path)(error),
        }
    }
}

fn refused(what: &str) -> SnapshotError {
    SnapshotError::NotExported { what: what.to_owned() }
}

fn damaged(what: &str) -> SnapshotError {
    SnapshotError::DamagedExport { what: what.to_owned() }
}
