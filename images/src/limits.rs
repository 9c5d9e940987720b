//! How much an image may ask of this machine. Everything in an archive is hostile until counted.

/// Upper bounds for one image; each has an error of its own that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_entries: 2_000_000,
            max_unpacked_bytes: 128 << 30,
            max_metadata_bytes: 256 << 20,
            max_layers: 512,
            max_document_bytes: 8 << 20,
            max_archive_members: 10_000,
        }
    }
}
