//! How much an image may ask of this machine. Everything in an archive is hostile until counted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Upper bounds for one image; each has an error of its own that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Tar entries over all layers of an image.
    pub max_entries: u64,
    /// Bytes of all layers once decompressed, and bytes of an archive once decompressed.
    pub max_unpacked_bytes: u64,
    /// Bytes of names, attributes and extents over all layers: what a merge holds in memory.
    pub max_metadata_bytes: u64,
    /// Layers of an image. Docker's own limit is 127.
    pub max_layers: usize,
    /// Bytes of one JSON document: manifest, index or configuration.
    pub max_document_bytes: u64,
    /// Members of an archive, and images in it.
    pub max_archive_members: usize,
}

impl Limits {
    /// More than any honest image asks for, and less than does harm.
    pub const DEFAULT: Limits = Limits {
        max_entries: 2_000_000,
        max_unpacked_bytes: 128 << 30,
        max_metadata_bytes: 256 << 20,
        max_layers: 512,
        max_document_bytes: 8 << 20,
        max_archive_members: 10_000,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// What an image or an archive can have too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Excess {
    /// See [`Limits::max_entries`].
    Entries,
    /// See [`Limits::max_unpacked_bytes`].
    UnpackedBytes,
    /// See [`Limits::max_metadata_bytes`].
    MetadataBytes,
    /// More of one layer than a disk can have.
    FileBytes,
    /// More memory to decompress it than zstd itself takes unasked.
    WindowBytes,
    /// See [`Limits::max_archive_members`].
    Files,
    /// See [`Limits::max_archive_members`].
    Images,
}

impl Excess {
    /// What the user can do about it, if there is something.
    pub(crate) fn hint(self) -> Option<String> {
        let flag = match self {
            Excess::Entries => "--max-entries",
            Excess::UnpackedBytes => "--max-size",
            Excess::MetadataBytes => "--max-metadata",
            Excess::WindowBytes => {
                return Some(
                    "compress it with a smaller window: with zstd's levels up to 19 and without \
                     `--long`, or with gzip"
                        .to_owned(),
                );
            }
            Excess::FileBytes | Excess::Files | Excess::Images => return None,
        };
        Some(format!(
            "if you trust the image, raise the limit with `{flag}`; a small file that unpacks to \
             this much is often an attack"
        ))
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Excess::Entries => "entries",
            Excess::UnpackedBytes => "unpacked bytes",
            Excess::MetadataBytes => "bytes of metadata",
            Excess::FileBytes => "bytes of file data",
            Excess::WindowBytes => "bytes in a zstd window",
            Excess::Files => "files",
            Excess::Images => "images",
        })
    }
}
