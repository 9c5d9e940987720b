//! Random access to an archive's members, wherever they lie, without reading them into memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::LoadSource;
use crate::compression::{Compression, Decoder, WINDOW_LIMIT, decompress, read_up_to};
use crate::document::DocumentError;
use crate::error::Error;
use crate::limits::{Excess, Limits};
use crate::tar::{Kind, Reader, TarError};

/// An opened archive.
pub(crate) struct Archive {
    /// For errors: the path, or `standard input`.
    name: String,
    storage: Storage,
}

enum Storage {
    Folder(PathBuf),
    Tar { file: File, index: Index },
}

/// What is where in a tar.
struct Index {
    members: HashMap<String, Member>,
    /// Set unless the tar ends with its end mark: its length.
    cut_off_at: Option<u64>,
}

enum Member {
    File {
        offset: u64,
        length: u64,
    },
    /// Old `docker save` replaces layers that are there already by symbolic links.
    Link {
        target: String,
    },
}

/// Links that lead to links: Docker writes one step.
const LINK_LIMIT: usize = 4;

impl Archive {
    /// Opens the archive; a stream or a compressed file is unpacked into `scratch` first.
    pub(crate) fn open(
        source: LoadSource,
        scratch: &Path,
        limits: &Limits,
    ) -> Result<Archive, Error> {
        let (name, input) = match source {
            LoadSource::Reader(reader) => ("standard input".to_owned(), reader),
            LoadSource::Path(path) => {
                let name = path.display().to_string();
                let read = |source| Error::ReadArchive { archive: name.clone(), source };
                if path.is_dir() {
                    return Ok(Archive { name, storage: Storage::Folder(path) });
                }
                let mut file = File::open(&path).map_err(read)?;
                if is_plain_file(&mut file).map_err(read)? {
                    let mut reader = Reader::new(BufReader::new(&file));
                    let index = index(&mut reader, Reader::seek_past, limits, &name)?;
                    return Ok(Archive { name, storage: Storage::Tar { file, index } });
                }
                (name, Box::new(file) as Box<dyn Read>)
            }
        };
        let read = |source| Error::ReadArchive { archive: name.clone(), source };
        let mut spool = Spool {
            input: decompress(input).map_err(read)?,
            copy: tempfile::tempfile_in(scratch)
                .map_err(|source| Error::io("create a file in", scratch, source))?,
            left: limits.max_unpacked_bytes,
            exceeded: false,
            write_error: None,
        };
        let mut reader = Reader::new(BufReader::with_capacity(128 << 10, &mut spool));
        let indexed = index(&mut reader, |_| Ok(()), limits, &name).and_then(|index| {
            // The end of a compressed stream has its checksum; that of a pipe, its writer.
            reader.drain().map_err(|source| damaged(&name, source))?;
            Ok(index)
        });
        if let Some(source) = spool.write_error {
            return Err(Error::io("write the archive to", scratch, source));
        }
        if spool.input.is_refused() {
            return Err(limit_error(&name, Excess::WindowBytes, WINDOW_LIMIT));
        }
        if spool.exceeded {
            return Err(limit_error(&name, Excess::UnpackedBytes, limits.max_unpacked_bytes));
        }
        Ok(Archive { name, storage: Storage::Tar { file: spool.copy, index: indexed? } })
    }

    pub(crate) fn contains(&self, member: &str) -> bool {
        match &self.storage {
            Storage::Folder(folder) => folder.join(member).is_file(),
            Storage::Tar { index, .. } => index.members.contains_key(member),
        }
    }

    /// A reader of one member's bytes.
    pub(crate) fn reader(&self, member: &str) -> Result<Section, Error> {
        let read = |source| Error::ReadArchive { archive: self.name.clone(), source };
        match &self.storage {
            Storage::Folder(folder) => {
                let safe = !member.starts_with('/') && member.split('/').all(|part| part != "..");
                let path = folder.join(member);
                // Opening a pipe would wait for somebody who writes to it.
                let file =
                    if safe && path.is_file() { File::open(path) } else { Err(missing_file()) };
                let file = match file {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(self.missing(member));
                    }
                    Err(error) => return Err(read(error)),
                };
                let length = file.metadata().map_err(read)?.len();
                Ok(Section { file, offset: 0, end: length })
            }
            Storage::Tar { file, index } => {
                let mut name = member;
                for _ in 0..=LINK_LIMIT {
                    match index.members.get(name) {
                        Some(Member::Link { target }) => name = target,
                        Some(Member::File { offset, length }) => {
                            let file = file.try_clone().map_err(read)?;
                            return Ok(Section { file, offset: *offset, end: offset + length });
                        }
                        None => break,
                    }
                }
                Err(self.missing(member))
            }
        }
    }

    /// A whole JSON document.
    pub(crate) fn document(&self, member: &str, limits: &Limits) -> Result<Vec<u8>, Error> {
        let mut section = self.reader(member)?;
        let (size, limit) = (section.end - section.offset, limits.max_document_bytes);
        if size > limit {
            return Err(Error::document(member, DocumentError::TooLarge { size, limit }));
        }
        let mut bytes = Vec::new();
        section
            .read_to_end(&mut bytes)
            .map_err(|source| Error::ReadArchive { archive: self.name.clone(), source })?;
        Ok(bytes)
    }

    /// The error for a member that is not there, perhaps because the archive was cut off before it.
    pub(crate) fn missing(&self, member: &str) -> Error {
        let archive = self.name.clone();
        match &self.storage {
            Storage::Tar { index: Index { cut_off_at: Some(position), .. }, .. } => {
                let source = TarError::Truncated { position: *position };
                Error::DamagedArchive { archive, source }
            }
            _ => Error::Missing { archive, member: member.to_owned() },
        }
    }

    pub(crate) fn limit(&self, what: Excess, limit: u64) -> Error {
        limit_error(&self.name, what, limit)
    }
}

/// A part of a file. Does not move the file's own offset, which others share.
pub(crate) struct Section {
    file: File,
    offset: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}

/// Whether the members can be read where they are: a regular file that is not compressed.
fn is_plain_file(file: &mut File) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut magic = [0; 6];
    let length = read_up_to(file, &mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Compression::of(&magic[..length]) == Compression::None)
}

/// Notes what is where. `pass` goes past a member's data, or leaves that to the reader.
fn index<R: Read>(
    reader: &mut Reader<R>,
    pass: impl Fn(&mut Reader<R>) -> Result<(), TarError>,
    limits: &Limits,
    archive: &str,
) -> Result<Index, Error> {
    let damaged = |source| damaged(archive, source);
    let mut members = HashMap::new();
    while let Some(entry) = reader.next_entry().map_err(damaged)? {
        // Names that are no text cannot be named by a manifest.
        let Ok(name) = str::from_utf8(&entry.path) else { continue };
        let name = resolve("", name);
        let member = match entry.kind {
            Kind::File { size } => {
                let offset = reader.position();
                pass(reader).map_err(damaged)?;
                Member::File { offset, length: size }
            }
            Kind::Symlink { target } => match str::from_utf8(&target) {
                Ok(target) => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    Member::Link { target: resolve(folder, target) }
                }
                Err(_) => continue,
            },
            Kind::HardLink { target } => match str::from_utf8(&target) {
                Ok(target) => Member::Link { target: resolve("", target) },
                Err(_) => continue,
            },
            _ => continue,
        };
        members.insert(name, member);
        if members.len() > limits.max_archive_members {
            return Err(limit_error(archive, Excess::Files, limits.max_archive_members as u64));
        }
    }
    let cut_off_at = if reader.is_closed() { None } else { Some(reader.position()) };
    Ok(Index { members, cut_off_at })
}

fn damaged(archive: &str, source: TarError) -> Error {
    match source {
        TarError::NotTar => Error::NotAnArchive { archive: archive.to_owned() },
        source => Error::DamagedArchive { archive: archive.to_owned(), source },
    }
}

/// A path relative to a folder, both in the archive; `..` never leaves it.
fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        parts.clear();
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn limit_error(archive: &str, what: Excess, limit: u64) -> Error {
    Error::ArchiveLimit { archive: archive.to_owned(), what, limit }
}

fn missing_file() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// Copies a stream on its way through the indexer, so that offsets in the copy are known.
struct Spool {
    input: Decoder<Box<dyn Read>>,
    copy: File,
    left: u64,
    exceeded: bool,
    write_error: Option<io::Error>,
}

impl Read for Spool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            self.exceeded = true;
            return Err(io::Error::other("more bytes than the limit allows"));
        };
        self.left = left;
        if let Err(error) = self.copy.write_all(&buffer[..count]) {
            self.write_error = Some(error);
            return Err(io::Error::other("cannot keep a copy"));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_without_detours() {
        let cases = [
            ("", "./a/b", "a/b"),
            ("x/y", "../z/layer.tar", "x/z/layer.tar"),
            ("x", "../../../etc/passwd", "etc/passwd"),
            ("x", "/a", "a"),
        ];
        for (folder, path, expected) in cases {
            assert_eq!(resolve(folder, path), expected);
        }
    }
}
