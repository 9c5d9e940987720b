//! Reads tar streams: ustar, PAX and GNU, one entry after another, in bounded memory; writes PAX.
//!
//! POSIX.1-2017 `pax` (ustar and extended headers) and the GNU tar manual ("Tar Internals") are
//! the sources. Where writers disagree, this reader does as Go's `archive/tar`, which is what
//! made and judged nearly every image there is.

mod header;
mod pax;
mod reader;
mod sparse;
mod write;

pub use reader::Reader;
pub use write::Writer;

/// One member of an archive. The content, if any, is then read from the [`Reader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it stands in the archive: any bytes but NUL, perhaps hostile.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// The number of its owner.
    pub uid: u32,
    /// And of its group.
    pub gid: u32,
    /// When it was changed last.
    pub mtime: Timestamp,
    /// Extended attributes in the order of the archive; names are unique.
    pub xattrs: Xattrs,
}

/// Names with their prefixes, and values of any bytes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// The stored bytes are those of the segments, one behind the other.
    SparseFile {
        /// Its length in bytes.
        size: u64,
        /// Where it has bytes.
        segments: Vec<Segment>,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points to.
        target: Vec<u8>,
    },
    /// A further name of an earlier member.
    HardLink {
        /// That member's path.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// Anything that has no place in an image's file tree, such as a volume label.
    Other {
        /// The type flag of its header.
        flag: u8,
    },
}

/// A run of stored bytes in a sparse file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// Seconds since 1970, perhaps negative, and 0 to 999,999,999 nanoseconds forward from there.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

/// Reads the entries of an archive, which may be compressed by gzip or zstd.
///
/// # Errors
/// When its first bytes cannot be read, or it is compressed in another way.
pub fn read<R: std::io::Read>(input: R) -> std::io::Result<Reader<impl std::io::Read>> {
    Ok(Reader::new(crate::compression::decompress(input)?))
}

/// Why a stream is not a readable tar archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream itself failed: a file, a pipe or a decompressor.
    #[error("cannot read the tar stream at byte {position}")]
    Read {
        /// Bytes into the uncompressed stream.
        position: u64,
        /// What failed.
        source: std::io::Error,
    },
    /// The stream ended inside an entry.
    #[error("the tar stream ends too early, at byte {position}")]
    Truncated {
        /// Bytes into the uncompressed stream.
        position: u64,
    },
    /// The first block is no tar header.
    #[error("this is not a tar archive")]
    NotTar,
    /// A header's checksum is wrong.
    #[error("the tar header at byte {position} is damaged: its checksum is wrong")]
    Checksum {
        /// Bytes into the uncompressed stream.
        position: u64,
    },
    /// A field of a header does not parse or is out of range.
    #[error("tar entry {name:?} has an invalid {field}")]
    Field {
        /// The entry's path, lossily decoded.
        name: String,
        /// The field's name.
        field: &'static str,
    },
    /// An extended header is larger than this reader accepts.
    #[error("an extended tar header at byte {position} has {size} bytes, more than {limit}")]
    HeaderTooLarge {
        /// Bytes into the uncompressed stream.
        position: u64,
        /// What the header announces.
        size: u64,
        /// What is accepted.
        limit: u64,
    },
    /// An extended header's records do not parse.
    #[error("the extended tar header at byte {position} is malformed")]
    Pax {
        /// Bytes into the uncompressed stream.
        position: u64,
    },
    /// A sparse file's map is malformed.
    #[error("tar entry {name:?} has a malformed sparse map")]
    Sparse {
        /// The entry's path, lossily decoded.
        name: String,
    },
}
