//! One layer: a tar stream in; file contents on block boundaries and a list of records out.

mod ahead;
mod budget;
mod data;
mod path;
mod record;
mod stream;
mod unpack;
mod writeback;

use crate::digest::Digest;
use crate::limits::Excess;
use crate::tar::TarError;

pub(crate) use budget::Budget;
pub(crate) use path::NAME_LIMIT;
pub(crate) use record::{Content, FileData, Metadata, Next, Record, RecordReader, Summary};
pub(crate) use unpack::{Expected, Outputs, unpack, unpack_unnamed};

/// Bytes of a block: of the data file, of EROFS, and of a page of the host.
pub(crate) const BLOCK_SIZE: u64 = 4096;

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The layer's stream is no readable tar archive.
    #[error("cannot read the layer")]
    Tar(#[from] TarError),
    /// The blob is compressed in an unknown way, or cannot be read at all.
    #[error("cannot decompress the layer")]
    Decompress(#[source] std::io::Error),
    /// An entry's content ends early or cannot be decompressed.
    #[error("cannot read the content of layer entry {entry:?}")]
    Content {
        /// The entry's path.
        entry: String,
        /// What failed.
        source: std::io::Error,
    },
    /// A path has a `..` component.
    #[error("layer entry {entry:?} has `..` in its path")]
    DotDot {
        /// The entry's path.
        entry: String,
    },
    /// A path has a component of more than 255 bytes, or a whiteout names nothing.
    #[error("layer entry {entry:?} has an invalid name")]
    Name {
        /// The entry's path.
        entry: String,
    },
    /// A link, device, attribute or sparse file that no Linux file system could hold.
    #[error("layer entry {entry:?} has an invalid {field}")]
    Invalid {
        /// The entry's path.
        entry: String,
        /// What is invalid.
        field: &'static str,
    },
    /// A kind of entry that has no meaning in a layer.
    #[error("layer entry {entry:?} is of the unknown kind {flag:?}")]
    UnknownKind {
        /// The entry's path.
        entry: String,
        /// The type flag in its header.
        flag: char,
    },
    /// The image asks for more than the configured [`Limits`](crate::Limits) allow.
    #[error("the image has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: Excess,
        /// The limit.
        limit: u64,
    },
    /// The unpacked layer cannot be written.
    #[error("cannot write the unpacked layer")]
    Write(#[source] std::io::Error),
    /// The bytes are not those that the manifest names.
    #[error("the layer's compressed bytes have digest {actual}, its manifest says {expected}")]
    BlobDigest {
        /// From the manifest.
        expected: Digest,
        /// Of the bytes.
        actual: Digest,
    },
    /// The uncompressed bytes are not those that the configuration names.
    #[error("the layer's uncompressed bytes have digest {actual}, the image says {expected}")]
    DiffId {
        /// From the configuration.
        expected: Digest,
        /// Of the bytes.
        actual: Digest,
    },
}

impl LayerError {
    /// Whether the bytes are damaged, or others than the image says.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.is_in_the_bytes()
            || matches!(self, LayerError::BlobDigest { .. } | LayerError::DiffId { .. })
    }

    /// Whether the layer's bytes themselves are at fault, rather than what they ask for.
    fn is_in_the_bytes(&self) -> bool {
        matches!(self, LayerError::Tar(_) | LayerError::Decompress(_) | LayerError::Content { .. })
    }
}
