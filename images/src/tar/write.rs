//! Writes tar streams: ustar headers, with PAX records in front where a header's fields end.

use std::io::{self, Read, Write};

use super::{Entry, Kind, Segment, Timestamp};

const BLOCK: usize = 512;

/// Bytes of a ustar header's name and link name.
const NAME_FIELD: usize = 100;

/// The largest number of 7 and of 11 octal digits.
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// Writes entries to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    /// Bytes that the entry at hand still wants, and zeros behind them.
    missing: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// A writer to `output`.
    pub fn new(output: W) -> Writer<W> {
        Writer { output, missing: 0, padding: 0 }
    }

    /// Begins an entry. A file's stored bytes follow through [`Writer::copy`].
    ///
    /// # Errors
    /// When the output fails, or the entry before has less content than it should.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_entry()?;
        let mut pax = Vec::new();
        let mut name = entry.path.clone();
        if name.is_empty() {
            name = b".".to_vec();
        }
        if entry.kind == Kind::Directory {
            name.push(b'/');
        }
        let (mut map, mut size) = (Vec::new(), 0);
        match &entry.kind {
            Kind::File { size: length } => size = *length,
            Kind::SparseFile { size: length, segments } => {
                map = sparse_map(*length, segments);
                size = map.len() as u64 + segments.iter().map(|part| part.length).sum::<u64>();
                record(&mut pax, b"GNU.sparse.major", b"1");
                record(&mut pax, b"GNU.sparse.minor", b"0");
                record(&mut pax, b"GNU.sparse.name", &name);
                record(&mut pax, b"GNU.sparse.realsize", length.to_string().as_bytes());
                name = b"GNUSparseFile.0/".iter().chain(&name).copied().collect();
            }
            _ => {}
        }
        let header = header(entry, &name, size, &mut pax);
        if !pax.is_empty() {
            self.extended(&pax)?;
        }
        self.output.write_all(&header)?;
        self.output.write_all(&map)?;
        self.missing = size - map.len() as u64;
        self.padding = padding(size);
        Ok(())
    }

    /// Copies the next `length` stored bytes of the entry.
    ///
    /// # Errors
    /// When either side fails, or `input` ends too early.
    pub fn copy(&mut self, input: &mut impl Read, length: u64) -> io::Result<()> {
        let copied = io::copy(&mut input.take(length), &mut self.output)?;
        if copied != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.missing = self.missing.saturating_sub(length);
        Ok(())
    }

    /// A file without attributes of its own, as archives of images have them.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn file(&mut self, path: &str, size: u64, mtime: Timestamp) -> io::Result<()> {
        let path = path.as_bytes().to_vec();
        let (kind, mode, xattrs) = (Kind::File { size }, 0o644, Vec::new());
        self.append(&Entry { path, kind, mode, uid: 0, gid: 0, mtime, xattrs })
    }

    /// A folder likewise.
    pub(crate) fn folder(&mut self, path: &str, mtime: Timestamp) -> io::Result<()> {
        let path = path.as_bytes().to_vec();
        let (kind, mode, xattrs) = (Kind::Directory, 0o755, Vec::new());
        self.append(&Entry { path, kind, mode, uid: 0, gid: 0, mtime, xattrs })
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.end()?;
        Ok(self.into_output())
    }

    /// Ends the archive, to which nothing more may be added.
    ///
    /// # Errors
    /// When the output fails, or the last entry has less content than it should.
    pub fn end(&mut self) -> io::Result<()> {
        self.end_entry()?;
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()
    }

    /// What is written to.
    pub fn output(&mut self) -> &mut W {
        &mut self.output
    }

    /// What was written to.
    pub fn into_output(self) -> W {
        self.output
    }

    fn end_entry(&mut self) -> io::Result<()> {
        if self.missing != 0 {
            return Err(io::Error::other("an entry has less content than its header says"));
        }
        self.output.write_all(&[0; BLOCK][..self.padding])?;
        self.padding = 0;
        Ok(())
    }

    fn extended(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = [0; BLOCK];
        put(&mut header, 0, b"PaxHeaders.0/entry");
        octal(&mut header, 100, 7, 0o644);
        octal(&mut header, 108, 7, 0);
        octal(&mut header, 116, 7, 0);
        octal(&mut header, 124, 11, records.len() as u64);
        octal(&mut header, 136, 11, 0);
        seal(&mut header, b'x');
        self.output.write_all(&header)?;
        self.output.write_all(records)?;
        self.output.write_all(&[0; BLOCK][..padding(records.len() as u64)])
    }
}

impl<W: Write> Write for Writer<W> {
    /// Takes stored bytes of the entry, as [`Writer::copy`] does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.missing {
            return Err(io::Error::other("an entry has more content than its header says"));
        }
        let count = self.output.write(bytes)?;
        self.missing -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The entry's header; what does not fit into it is added to `pax`.
fn header(entry: &Entry, name: &[u8], size: u64, pax: &mut Vec<u8>) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let is_sparse = matches!(entry.kind, Kind::SparseFile { .. });
    put(&mut header, 0, &name[..name.len().min(NAME_FIELD)]);
    if name.len() > NAME_FIELD && !is_sparse {
        record(pax, b"path", name);
    }
    octal(&mut header, 100, 7, u64::from(entry.mode));
    for (at, key, id) in [(108, b"uid", entry.uid), (116, b"gid", entry.gid)] {
        let id = u64::from(id);
        octal(&mut header, at, 7, id.min(OCTAL_7));
        if id > OCTAL_7 {
            record(pax, key, id.to_string().as_bytes());
        }
    }
    octal(&mut header, 124, 11, size.min(OCTAL_11));
    if size > OCTAL_11 {
        record(pax, b"size", size.to_string().as_bytes());
    }
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    let whole = u64::try_from(seconds).unwrap_or(0).min(OCTAL_11);
    octal(&mut header, 136, 11, whole);
    if nanoseconds != 0 || i64::try_from(whole) != Ok(seconds) {
        record(pax, b"mtime", decimal(entry.mtime).as_bytes());
    }
    let flag = match &entry.kind {
        Kind::File { .. } | Kind::SparseFile { .. } => b'0',
        Kind::HardLink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharDevice { .. } => b'3',
        Kind::BlockDevice { .. } => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Other { flag } => *flag,
    };
    if let Kind::HardLink { target } | Kind::Symlink { target } = &entry.kind {
        put(&mut header, 157, &target[..target.len().min(NAME_FIELD)]);
        if target.len() > NAME_FIELD {
            record(pax, b"linkpath", target);
        }
    }
    if let Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } = entry.kind {
        octal(&mut header, 329, 7, u64::from(major));
        octal(&mut header, 337, 7, u64::from(minor));
    }
    for (name, value) in &entry.xattrs {
        let key: Vec<u8> = b"SCHILY.xattr.".iter().chain(name).copied().collect();
        record(pax, &key, value);
    }
    seal(&mut header, flag);
    header
}

/// Flag, magic and checksum.
fn seal(header: &mut [u8; BLOCK], flag: u8) {
    header[156] = flag;
    put(header, 257, b"ustar\x0000");
    put(header, 148, b"        ");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    octal(header, 148, 6, sum);
    header[155] = b' ';
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A number as `digits` octal digits and a NUL.
fn octal(header: &mut [u8; BLOCK], at: usize, digits: usize, number: u64) {
    put(header, at, format!("{number:0digits$o}\0").as_bytes());
}

fn padding(size: u64) -> usize {
    let past = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - past) % BLOCK
}

/// A PAX record, whose length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(format!("{length} ").as_bytes());
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

/// Seconds as a decimal fraction. A [`Timestamp`]'s nanoseconds count forward, also before 1970.
fn decimal(time: Timestamp) -> String {
    let Timestamp { seconds, nanoseconds } = time;
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
}

/// The map of a sparse file, GNU format 1.0: the number of segments, and offset and length of each.
fn sparse_map(size: u64, segments: &[Segment]) -> Vec<u8> {
    let end = segments.last().map_or(0, |last| last.offset + last.length);
    let closing = (end < size).then_some(Segment { offset: size, length: 0 });
    let all: Vec<&Segment> = segments.iter().chain(&closing).collect();
    let mut text = format!("{}\n", all.len());
    for segment in all {
        text.push_str(&format!("{}\n{}\n", segment.offset, segment.length));
    }
    let mut map = text.into_bytes();
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Reader;

    fn entry(path: &[u8], kind: Kind) -> Entry {
        let mtime = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
        let (mode, uid, gid) = (0o644, 0, 0);
        Entry { path: path.to_vec(), kind, mode, uid, gid, mtime, xattrs: Vec::new() }
    }

    fn entries() -> Vec<(Entry, Vec<u8>)> {
        let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        let mut odd = entry(b"odd \xff", Kind::File { size: 3 });
        odd.xattrs = vec![(b"user.any".to_vec(), (0..=255).collect())];
        (odd.mode, odd.uid, odd.gid, odd.mtime) = (0o6755, 4_294_967_294, 70_000, at(-2, 500));
        let mut old = entry(b"old", Kind::Directory);
        old.mtime = at(-1, 0);
        let mut late = entry(&[b'n'; 255], Kind::Symlink { target: vec![b't'; 4095] });
        late.mtime = at(1 << 40, 1);
        let segments =
            vec![Segment { offset: 4096, length: 5 }, Segment { offset: 1 << 40, length: 2 }];
        vec![
            (entry(b"", Kind::Directory), Vec::new()),
            (old, Vec::new()),
            (odd, b"abc".to_vec()),
            (late, Vec::new()),
            (entry(&[b'p'; 101], Kind::HardLink { target: b"odd \xff".to_vec() }), Vec::new()),
            (entry(b"c", Kind::CharDevice { major: 4095, minor: 1_048_575 }), Vec::new()),
            (entry(b"b", Kind::BlockDevice { major: 8, minor: 1 }), Vec::new()),
            (entry(b"f", Kind::Fifo), Vec::new()),
            (
                entry(b"sparse", Kind::SparseFile { size: 1 << 41, segments }),
                b"hello, x"[..7].to_vec(),
            ),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new(Vec::new());
        for (entry, data) in entries() {
            writer.append(&entry).unwrap();
            writer.copy(&mut &data[..], data.len() as u64).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..]);
        for (mut wanted, data) in entries() {
            let mut read = reader.next_entry().unwrap().unwrap();
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            assert_eq!(content, data);
            if let Kind::SparseFile { segments, .. } = &mut read.kind {
                segments.retain(|segment| segment.length > 0);
            }
            if wanted.kind == Kind::Directory {
                wanted.path =
                    if wanted.path.is_empty() { b"./".to_vec() } else { b"old/".to_vec() };
            }
            assert_eq!(read, wanted);
        }
        assert!(reader.next_entry().unwrap().is_none());
        assert!(reader.is_closed());
    }

    #[test]
    fn an_entry_that_is_too_short_is_an_error() {
        let mut writer = Writer::new(Vec::new());
        writer.append(&entry(b"a", Kind::File { size: 3 })).unwrap();
        assert!(writer.copy(&mut &b"ab"[..], 3).is_err());
        let mut writer = Writer::new(Vec::new());
        writer.append(&entry(b"a", Kind::File { size: 3 })).unwrap();
        assert!(writer.finish().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_entry_is_read_as_it_was_written(
            path in "[^/\\.\\x00][^/\\x00]{0,250}",
            target in "[^\\x00]{1,400}",
            ids in proptest::array::uniform2(0..u32::MAX),
            mode in 0_u16..0o10000,
            seconds in -1_i64 << 40..1 << 40,
            nanoseconds in 0_u32..1_000_000_000,
            data in proptest::collection::vec(proptest::num::u8::ANY, 0..2000),
            value in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        ) {
            let size = data.len() as u64;
            let kinds = [Kind::File { size }, Kind::Symlink { target: target.into_bytes() }];
            for kind in kinds {
                let wanted = Entry {
                    path: path.clone().into_bytes(),
                    mode,
                    uid: ids[0],
                    gid: ids[1],
                    mtime: Timestamp { seconds, nanoseconds },
                    xattrs: vec![(b"user.x".to_vec(), value.clone())],
                    kind,
                };
                let mut writer = Writer::new(Vec::new());
                writer.append(&wanted).unwrap();
                if let Kind::File { .. } = wanted.kind {
                    writer.copy(&mut &data[..], size).unwrap();
                }
                let bytes = writer.finish().unwrap();
                let mut reader = Reader::new(&bytes[..]);
                proptest::prop_assert_eq!(reader.next_entry().unwrap().unwrap(), wanted);
            }
        }
    }
}
