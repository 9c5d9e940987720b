//! The `tree` file of a layer: what its tar said, in order, without the contents of files.
//!
//! Magic and version, then records, each a little-endian `u32` length and that many bytes of
//! postcard; a length of zero, the [`Summary`], and the end of the file. Readers check all three.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::erofs::is_packed_size;
use crate::tar::{Timestamp, Xattrs};

/// File magic with the format's version as its last byte. Version 1 had no packed files.
const MAGIC: &[u8; 8] = b"HRLAYER\x02";
const OLD_MAGIC: &[u8; 8] = b"HRLAYER\x01";

/// A record longer than this is no record; the largest holds two paths, 1 MiB of attributes and a
/// sparse map of 65,536 chunks.
const RECORD_LIMIT: u32 = 8 << 20;

/// One entry of a layer. `path` is relative, without `.`, `..` and empty components.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) path: Vec<u8>,
    pub(crate) content: Content,
    pub(crate) metadata: Metadata,
}

/// What the entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    Directory,
    File {
        size: u64,
        data: FileData,
    },
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// The name at `path` and all below it vanish from the layers below.
    Whiteout,
    /// Everything in the folder at `path` vanishes from the layers below.
    Opaque,
}

/// Where a file's content lies in the layer's data file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FileData {
    Contiguous {
        block: u32,
    },
    /// Chunks of `1 << block_bits` blocks; those without a block are holes.
    Chunked {
        block_bits: u8,
        blocks: Vec<Option<u32>>,
    },
    /// Behind an inode of its own, which begins at this multiple of 32 bytes: [`crate::erofs::head`].
    Packed {
        slot: u64,
    },
}

/// Owner, mode, time and attributes of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Xattrs,
}

/// What the whole layer comes to; stands at the end of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    /// Length of the data file in blocks.
    pub(crate) data_blocks: u32,
    /// Sum of the sizes of the files, as `docker images` counts.
    pub(crate) content_bytes: u64,
    /// Bytes of the records.
    pub(crate) metadata_bytes: u64,
}

/// Writes the `tree` file.
pub(crate) struct RecordWriter<W> {
    output: W,
    /// A record's bytes; the same memory for each.
    buffer: Vec<u8>,
    written: u64,
    records: u64,
}

impl<W: Write> RecordWriter<W> {
    pub(crate) fn new(mut output: W) -> io::Result<RecordWriter<W>> {
        output.write_all(MAGIC)?;
        Ok(RecordWriter { output, buffer: Vec::new(), written: 0, records: 0 })
    }

    /// Appends a record; gives the bytes of all records so far.
    pub(crate) fn push(&mut self, record: &Record) -> io::Result<u64> {
        self.buffer.clear();
        self.buffer = postcard::to_extend(record, std::mem::take(&mut self.buffer))
            .map_err(io::Error::other)?;
        let length = u32::try_from(self.buffer.len()).map_err(io::Error::other)?;
        self.output.write_all(&length.to_le_bytes())?;
        self.output.write_all(&self.buffer)?;
        self.written += u64::from(length) + 4;
        self.records += 1;
        Ok(self.written)
    }

    pub(crate) fn finish(
        mut self,
        data_blocks: u32,
        content_bytes: u64,
    ) -> io::Result<(W, Summary)> {
        let summary = Summary {
            records: self.records,
            data_blocks,
            content_bytes,
            metadata_bytes: self.written,
        };
        let bytes = postcard::to_stdvec(&summary).map_err(io::Error::other)?;
        self.output.write_all(&0_u32.to_le_bytes())?;
        self.output.write_all(&bytes)?;
        Ok((self.output, summary))
    }
}

/// Reads the `tree` file, one record at a time.
pub(crate) struct RecordReader<R> {
    input: R,
    is_current: bool,
    buffer: Vec<u8>,
    records: u64,
}

/// A record, or the end.
pub(crate) enum Next {
    Record(Record),
    End(Summary),
}

impl<R: Read> RecordReader<R> {
    pub(crate) fn new(mut input: R) -> io::Result<RecordReader<R>> {
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        let is_current = &magic == MAGIC;
        if !is_current && &magic != OLD_MAGIC {
            return Err(malformed("it does not begin with the format's magic number and version"));
        }
        Ok(RecordReader { input, is_current, buffer: Vec::new(), records: 0 })
    }

    /// Whether a layer that is unpacked now would have the same format.
    pub(crate) fn is_current(&self) -> bool {
        self.is_current
    }

    pub(crate) fn read(&mut self) -> io::Result<Next> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == 0 {
            return self.end().map(Next::End);
        }
        if length > RECORD_LIMIT {
            return Err(malformed("a record is too long"));
        }
        self.buffer.resize(length as usize, 0);
        self.input.read_exact(&mut self.buffer)?;
        self.records += 1;
        match postcard::take_from_bytes(&self.buffer) {
            Ok((record, [])) if is_sound(&record) => Ok(Next::Record(record)),
            Ok((_, [])) => Err(malformed("a small file is no small file")),
            Ok(_) => Err(malformed("bytes are left over in a record")),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn end(&mut self) -> io::Result<Summary> {
        self.buffer.clear();
        (&mut self.input).take(64).read_to_end(&mut self.buffer)?;
        match postcard::take_from_bytes::<Summary>(&self.buffer) {
            Ok((summary, [])) if summary.records == self.records => Ok(summary),
            Ok(_) => Err(malformed("its end does not fit its records")),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

/// Whether a record's content is one that this format's writers make.
fn is_sound(record: &Record) -> bool {
    match record.content {
        Content::File { size, data: FileData::Packed { .. } } => is_packed_size(size),
        _ => true,
    }
}

fn malformed(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let metadata = Metadata {
            mode: 0o4755,
            uid: 70_000,
            gid: 1,
            mtime: Timestamp { seconds: -5, nanoseconds: 999_999_999 },
            xattrs: vec![(b"user.\xff".to_vec(), b"\0\n".to_vec())],
        };
        let contents = [
            Content::Directory,
            Content::File { size: 1 << 40, data: FileData::Contiguous { block: 7 } },
            Content::File {
                size: 9000,
                data: FileData::Chunked { block_bits: 1, blocks: vec![None, Some(3)] },
            },
            Content::File { size: 4032, data: FileData::Packed { slot: 1 << 38 } },
            Content::Symlink { target: b"\xfe/x".to_vec() },
            Content::HardLink { target: b"a/b".to_vec() },
            Content::CharDevice { major: 1, minor: 3 },
            Content::BlockDevice { major: 259, minor: 70_000 },
            Content::Fifo,
            Content::Whiteout,
            Content::Opaque,
        ];
        let record =
            |content| Record { path: b"p\xff".to_vec(), content, metadata: metadata.clone() };
        contents.into_iter().map(record).collect()
    }

    fn write(records: &[Record]) -> Vec<u8> {
        let mut writer = RecordWriter::new(Vec::new()).unwrap();
        for record in records {
            writer.push(record).unwrap();
        }
        writer.finish(12, 34).unwrap().0
    }

    fn read(bytes: &[u8]) -> io::Result<(Vec<Record>, Summary)> {
        let mut reader = RecordReader::new(bytes)?;
        let mut records = Vec::new();
        loop {
            match reader.read()? {
                Next::Record(record) => records.push(record),
                Next::End(summary) => return Ok((records, summary)),
            }
        }
    }

    #[test]
    fn records_come_back_as_they_went() {
        let (back, summary) = read(&write(&records())).unwrap();
        assert_eq!(back, records());
        let metadata_bytes = summary.metadata_bytes;
        let expected = Summary { records: 11, data_blocks: 12, content_bytes: 34, metadata_bytes };
        assert_eq!(summary, expected);
    }

    #[test]
    fn the_version_before_is_read_and_told_apart() {
        let mut bytes = write(&records());
        assert!(RecordReader::new(&bytes[..]).unwrap().is_current());
        bytes[7] = 1;
        assert!(!RecordReader::new(&bytes[..]).unwrap().is_current());
    }

    #[test]
    fn a_small_file_is_small() {
        for size in [0, 4033, u64::MAX] {
            let content = Content::File { size, data: FileData::Packed { slot: 0 } };
            let record = Record { path: b"x".to_vec(), content, metadata: Metadata::default() };
            assert!(read(&write(&[record])).is_err(), "{size}");
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_noticed() {
        let whole = write(&records());
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        assert!(read(&[&whole[..], b"\0"].concat()).is_err());
        let mut newer = whole;
        newer[7] += 1;
        assert!(read(&newer).is_err());
    }
}
