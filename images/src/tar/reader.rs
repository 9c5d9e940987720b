//! The stream of entries: joins extended headers with the header behind them, skips what was not read.

use std::io::{self, BufReader, Read, Seek};

use super::header::{BLOCK, Header};
use super::pax::{self, Pax};
use super::sparse::{self, MapText, SEGMENT_LIMIT};
use super::{Entry, Kind, Segment, TarError, Timestamp};
use crate::compression::read_up_to;

/// Go's `maxSpecialFileSize`: extended headers and long names above 1 MiB are refused.
const EXTENDED_LIMIT: u64 = 1 << 20;

/// PATH_MAX without its NUL: what a file system takes in one go.
const PATH_LIMIT: usize = 4095;

/// Reads entries from a stream. After [`Reader::next_entry`], reading gives the entry's stored bytes.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes consumed of the stream.
    position: u64,
    /// Bytes of the current entry not read yet.
    remaining: u64,
    /// Zero bytes behind it, up to the next block.
    padding: u64,
    ended: bool,
    /// Whether that was by two blocks of zeros.
    closed: bool,
}

/// What was gathered in front of the entry proper.
#[derive(Default)]
struct Prelude {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// A reader of `input`, which is not compressed.
    pub fn new(input: R) -> Reader<R> {
        Reader { input, position: 0, remaining: 0, padding: 0, ended: false, closed: false }
    }

    /// Bytes into the stream: behind [`Reader::next_entry`], where the entry's data begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the archive's end was marked; an archive cut off between two entries has no mark.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next entry, or `None` at the end of the archive.
    ///
    /// # Errors
    /// When the stream is no archive, or ends inside an entry.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut prelude = Prelude::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.next_header()? else {
                // An extended header with nothing behind it describes nothing.
                return match prelude {
                    Prelude { pax: None, long_path: None, long_link: None } => Ok(None),
                    _ => Err(TarError::Truncated { position: self.position }),
                };
            };
            match header.flag() {
                b'x' => {
                    let position = self.position;
                    let bytes = self.extended_data(&header)?;
                    let records = pax::parse(&bytes).ok_or(TarError::Pax { position })?;
                    prelude.pax = Some(records);
                }
                b'L' => prelude.long_path = Some(self.long_name(&header)?),
                b'K' => prelude.long_link = Some(self.long_name(&header)?),
                // Global headers speak of the archive (git puts a commit there): ignored as Docker does.
                b'g' => {
                    self.extended_data(&header)?;
                }
                _ => return self.entry(&header, prelude).map(Some),
            }
        }
    }

    /// Reads and drops what follows the end of the archive, so that a hash of the stream is complete, and
    /// whoever compressed it has said that all of it was as it should be.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn drain(&mut self) -> Result<(), TarError> {
        self.skip_rest()?;
        let mut scratch = [0; 16 << 10];
        while self.fill(&mut scratch)? != 0 {}
        Ok(())
    }

    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let start = self.position;
        let mut block = [0; BLOCK];
        let mut zeros = 0;
        loop {
            match self.fill(&mut block)? {
                // Many writers leave the closing zero blocks out; Go and GNU tar take that.
                0 => {
                    self.ended = true;
                    return if start == 0 && zeros == 0 { Err(TarError::NotTar) } else { Ok(None) };
                }
                BLOCK => {}
                _ if start == 0 => return Err(TarError::NotTar),
                _ => return Err(TarError::Truncated { position: self.position }),
            }
            if !Header::is_zero(&block) {
                break;
            }
            zeros += 1;
            if zeros == 2 {
                self.ended = true;
                self.closed = true;
                return Ok(None);
            }
        }
        if zeros == 0 && Header::checksum_is_right(&block) {
            return Ok(Some(Header(block)));
        }
        if start == 0 {
            return Err(TarError::NotTar);
        }
        Err(TarError::Checksum { position: self.position - BLOCK as u64 })
    }

    fn entry(&mut self, header: &Header, prelude: Prelude) -> Result<Entry, TarError> {
        let mut pax = prelude.pax.unwrap_or_default();
        let mut path = pax.path.take().unwrap_or_else(|| header.path());
        if let Some(name) = pax.sparse.name.take() {
            path = name;
        }
        if let Some(name) = prelude.long_path {
            path = name;
        }
        let link = prelude.long_link.or(pax.link.take()).unwrap_or_else(|| header.link().to_vec());
        let invalid = |field| TarError::Field { name: lossy(&path), field };
        for (text, field) in
            [(&path, "path: it is too long"), (&link, "link target: it is too long")]
        {
            if text.len() > PATH_LIMIT {
                return Err(invalid(field));
            }
        }
        let mode = header.mode().ok_or_else(|| invalid("mode"))?;
        let uid = id(pax.uid, header.uid()).ok_or_else(|| invalid("user id"))?;
        let gid = id(pax.gid, header.gid()).ok_or_else(|| invalid("group id"))?;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => {
                let seconds = header.mtime().ok_or_else(|| invalid("modification time"))?;
                Timestamp { seconds, nanoseconds: 0 }
            }
        };
        let stored = match pax.size {
            Some(size) => Some(size),
            None => header.size().and_then(|size| u64::try_from(size).ok()),
        };
        let stored = stored.ok_or_else(|| invalid("size"))?;
        let xattrs = std::mem::take(&mut pax.xattrs);
        let kind = self.kind(header, &pax, Names { path: &path, link }, stored)?;
        let mode = u16::try_from(mode & 0o7777).expect("masked to twelve bits");
        Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }

    fn kind(
        &mut self,
        header: &Header,
        pax: &Pax,
        names: Names<'_>,
        stored: u64,
    ) -> Result<Kind, TarError> {
        let device = || {
            let (major, minor) = header.device()?;
            Some((u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
        };
        let bad_device = || TarError::Field { name: lossy(names.path), field: "device number" };
        Ok(match header.flag() {
            // Before POSIX, a slash at the end was the only mark of a directory.
            0 if names.path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => {
                self.remaining = stored;
                self.padding = stored.wrapping_neg() % BLOCK as u64;
                self.file(header, pax, names.path)?
            }
            b'1' => Kind::HardLink { target: names.link },
            b'2' => Kind::Symlink { target: names.link },
            b'3' => {
                let (major, minor) = device().ok_or_else(bad_device)?;
                Kind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = device().ok_or_else(bad_device)?;
                Kind::BlockDevice { major, minor }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => {
                self.remaining = stored;
                self.padding = stored.wrapping_neg() % BLOCK as u64;
                Kind::Other { flag }
            }
        })
    }

    fn file(&mut self, header: &Header, pax: &Pax, path: &[u8]) -> Result<Kind, TarError> {
        let malformed = || TarError::Sparse { name: lossy(path) };
        let (size, segments) = if header.flag() == b'S' {
            let size = sparse::old_gnu_size(header).and_then(|size| u64::try_from(size).ok());
            (size, self.old_gnu_map(header, path)?)
        } else if pax.sparse.map_is_in_data() {
            (pax.sparse.size, self.map_in_data(path)?)
        } else if pax.sparse.has_map {
            (pax.sparse.size, pax.sparse.segments.clone())
        } else {
            return Ok(Kind::File { size: self.remaining });
        };
        let size = size.ok_or_else(malformed)?;
        let segments = sparse::checked(segments, size, self.remaining).ok_or_else(malformed)?;
        Ok(Kind::SparseFile { size, segments })
    }

    /// The extension blocks lie between header and data and are not counted in the stored size.
    fn old_gnu_map(&mut self, header: &Header, path: &[u8]) -> Result<Vec<Segment>, TarError> {
        let malformed = || TarError::Sparse { name: lossy(path) };
        let mut map = sparse::old_gnu_header(header).ok_or_else(malformed)?;
        while map.continues {
            let block = self.block()?;
            let next = sparse::old_gnu_extension(&block).ok_or_else(malformed)?;
            map.segments.extend(next.segments);
            map.continues = next.continues;
            if map.segments.len() > SEGMENT_LIMIT {
                return Err(malformed());
            }
        }
        Ok(map.segments)
    }

    /// The map's blocks are the first of the data and are counted in the stored size.
    fn map_in_data(&mut self, path: &[u8]) -> Result<Vec<Segment>, TarError> {
        let malformed = || TarError::Sparse { name: lossy(path) };
        let mut text = MapText::default();
        loop {
            self.remaining = self.remaining.checked_sub(BLOCK as u64).ok_or_else(malformed)?;
            let block = self.block()?;
            if text.push(&block).ok_or_else(malformed)? {
                return Ok(text.segments());
            }
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            BLOCK => Ok(block),
            _ => Err(TarError::Truncated { position: self.position }),
        }
    }

    fn extended_data(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let position = self.position;
        let size = header.size().and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or(TarError::Pax { position })?;
        let too_large = TarError::HeaderTooLarge { position, size, limit: EXTENDED_LIMIT };
        let length = match usize::try_from(size) {
            Ok(length) if size <= EXTENDED_LIMIT => length,
            _ => return Err(too_large),
        };
        let mut bytes = vec![0; length];
        if self.fill(&mut bytes)? != length {
            return Err(TarError::Truncated { position: self.position });
        }
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(bytes)
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut name = self.extended_data(header)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// Goes to the next header. The padding behind the last file may be missing, as `umoci insert`
    /// leaves it out.
    fn skip_rest(&mut self) -> Result<(), TarError> {
        let padding = usize::try_from(self.padding).expect("less than a block");
        let rest = self.remaining;
        (self.remaining, self.padding) = (0, 0);
        if rest > 0 {
            self.skip(rest)?;
        }
        self.fill(&mut [0; BLOCK][..padding]).map(drop)
    }

    /// Apart, since filling so large an array with zeros for every entry shows in the whole.
    fn skip(&mut self, mut rest: u64) -> Result<(), TarError> {
        let mut scratch = [0; 16 << 10];
        while rest > 0 {
            let wanted = scratch.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let count = self.fill(&mut scratch[..wanted])?;
            if count != wanted {
                return Err(TarError::Truncated { position: self.position });
            }
            rest -= count as u64;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        match read_up_to(&mut self.input, buffer) {
            Ok(count) => {
                self.position += count as u64;
                Ok(count)
            }
            Err(source) => Err(TarError::Read { position: self.position, source }),
        }
    }
}

impl<R: Read + Seek> Reader<BufReader<R>> {
    /// Goes past the current entry's data without reading it. An archive that ends inside it then
    /// looks as if it ended behind it, without an end mark.
    pub(crate) fn seek_past(&mut self) -> Result<(), TarError> {
        let position = self.position;
        let distance = self.remaining.saturating_add(self.padding);
        let failed = |source| TarError::Read { position, source };
        let signed = i64::try_from(distance).map_err(|error| failed(io::Error::other(error)))?;
        self.input.seek_relative(signed).map_err(failed)?;
        (self.remaining, self.padding) = (0, 0);
        self.position = position.saturating_add(distance);
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    /// Reads stored bytes of the current entry; an archive that ends inside it is an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.remaining -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

struct Names<'a> {
    path: &'a [u8],
    link: Vec<u8>,
}

fn id(pax: Option<u64>, header: Option<i64>) -> Option<u32> {
    let value = match pax {
        Some(value) => value,
        None => u64::try_from(header?).ok()?,
    };
    // 4,294,967,295 is `(uid_t) -1`, which means "leave it alone" to the kernel.
    u32::try_from(value).ok().filter(|value| *value != u32::MAX)
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
