//! JSON documents of images: read with a cap on their length, and errors that say what is wrong.

use serde::de::DeserializeOwned;

/// Why a manifest, index or configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document is longer than [`Limits::max_document_bytes`](crate::Limits).
    #[error("it has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not JSON, or not of the expected shape.
    #[error("it is not valid")]
    Json(#[from] serde_json::Error),
    /// A text that becomes an argument, variable or path of a process has a NUL byte.
    #[error("its field {field} has a NUL byte")]
    Nul {
        /// The field.
        field: &'static str,
    },
    /// It is neither an image manifest nor an index, or claims to be both.
    #[error("it is neither an image manifest nor an image index")]
    Ambiguous,
    /// It describes something that is not a container image, such as a chart or a signature.
    #[error("it describes {media_type:?}, which is not a container image")]
    NotAnImage {
        /// The media type of its configuration.
        media_type: String,
    },
    /// Manifest and configuration disagree.
    #[error("it lists {manifest} layers, the image's configuration lists {config}")]
    LayerCount {
        /// Layers in the manifest.
        manifest: usize,
        /// Layers in the configuration.
        config: usize,
    },
    /// More layers than [`Limits::max_layers`](crate::Limits).
    #[error("it lists {count} layers, more than the {limit} allowed")]
    TooManyLayers {
        /// Layers in the manifest.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Indexes that lead to indexes for too long.
    #[error("indexes are nested too deeply")]
    Nesting,
}

/// Parses a document whose length was checked before it was read.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    Ok(serde_json::from_slice(bytes)?)
}
