//! What can go wrong with images, in words for the user.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::document::DocumentError;
use crate::layer::LayerError;
use crate::limits::Excess;
use crate::reference::ReferenceError;
use crate::rootfs::MergeError;
use crate::store::StoreError;
use crate::tar::TarError;

/// Why an image cannot be loaded, found, used or removed. The store is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store itself failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name is not an image reference.
    #[error("invalid image name")]
    Reference(#[from] ReferenceError),
    /// No image has this name or id.
    #[error("no such image: {name}")]
    UnknownImage {
        /// As the user typed it.
        name: String,
    },
    /// More than one image's id begins like this.
    #[error("{name} is the beginning of more than one image id")]
    AmbiguousId {
        /// As the user typed it.
        name: String,
    },
    /// A container uses the image.
    #[error("image {name} is being used by {by}")]
    InUse {
        /// As the user typed it.
        name: String,
        /// Who uses it.
        by: String,
    },
    /// An image named by id has more than one reference.
    #[error("image {id} has {count} names")]
    StillTagged {
        /// The short id.
        id: String,
        /// How many names it has.
        count: usize,
    },
    /// The archive cannot be opened or read.
    #[error("cannot read {archive}")]
    ReadArchive {
        /// The path, or `standard input`.
        archive: String,
        /// What failed.
        source: std::io::Error,
    },
    /// It is neither a tar archive nor a folder.
    #[error("{archive} is not an image archive")]
    NotAnArchive {
        /// The path, or `standard input`.
        archive: String,
    },
    /// It is a tar archive that is damaged.
    #[error("archive {archive} is damaged")]
    DamagedArchive {
        /// The path, or `standard input`.
        archive: String,
        /// What failed.
        source: TarError,
    },
    /// A file that must be in the archive is not.
    #[error("archive {archive} has no {member:?}")]
    Missing {
        /// The path, or `standard input`.
        archive: String,
        /// What is missing.
        member: String,
    },
    /// The archive asks for more than [`Limits`](crate::Limits) allow.
    #[error("archive {archive} has more than {limit} {what}")]
    ArchiveLimit {
        /// The path, or `standard input`.
        archive: String,
        /// What there is too much of.
        what: Excess,
        /// The limit.
        limit: u64,
    },
    /// A manifest, index or configuration is unusable.
    #[error("cannot use {document:?} of the image")]
    Document {
        /// Its name in the archive, or its digest.
        document: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// Something does not have the digest it goes by.
    #[error("{what} has the wrong digest: {actual} instead of {expected}")]
    WrongDigest {
        /// What was checked.
        what: String,
        /// The digest it goes by.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// An index has no image for this machine.
    #[error("there is no image for {wanted} in it, only for {found}")]
    NoPlatform {
        /// This machine's platform.
        wanted: String,
        /// Those in the index.
        found: String,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {layer}")]
    Layer {
        /// The layer's diff id.
        layer: Digest,
        /// What is wrong with it.
        source: LayerError,
    },
    /// The tar of a file tree cannot be unpacked.
    #[error("cannot import the file tree")]
    Import {
        /// What is wrong with it.
        source: LayerError,
    },
    /// An archive that is being made cannot be written.
    #[error("cannot write {archive}")]
    WriteArchive {
        /// The path, or `standard output`.
        archive: String,
        /// What failed.
        source: std::io::Error,
    },
    /// A name with a digest would be a promise that nobody has checked.
    #[error("refusing to create a tag with a digest reference")]
    DigestTag,
    /// The layers do not make a file tree.
    #[error("cannot apply layer {layer} to those below it")]
    Merge {
        /// The layer's diff id.
        layer: Digest,
        /// What is wrong with it.
        source: MergeError,
    },
    /// The image's files do not fit into 16 TiB.
    #[error("the disk of image {image} would be larger than 16 TiB")]
    DiskTooLarge {
        /// The short id.
        image: String,
    },
}

impl Error {
    /// What the user can do about it, if there is something; a sentence without its full stop.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Store(error) => return error.hint(),
            Error::UnknownImage { .. } => {
                "`hyperrun images` lists what is here, `hyperrun load -i FILE` adds an archive"
                    .into()
            }
            Error::AmbiguousId { .. } => "give more digits of the id".into(),
            Error::InUse { .. } => {
                "remove the container first, or use `-f` to take the name away only".into()
            }
            Error::StillTagged { .. } => "remove the names one by one, or use `-f` for all".into(),
            Error::NotAnArchive { .. } | Error::Missing { .. } => {
                "`hyperrun load` takes what `docker save` or `skopeo copy` to docker-archive:, \
                 oci-archive: or oci: makes"
                    .into()
            }
            Error::DamagedArchive { .. } | Error::WrongDigest { .. } => {
                "the archive is incomplete or was changed; save or download it again".into()
            }
            Error::NoPlatform { wanted, .. } => {
                format!("choose an image that is built for {wanted}")
            }
            Error::ArchiveLimit { what, .. } => return what.hint(),
            Error::Layer { source, .. } | Error::Import { source } => return layer_hint(source),
            Error::WriteArchive { source, .. } => return crate::store::output_hint(source),
            Error::DigestTag => "give the image a name and a tag, as in `debian:mine`".into(),
            Error::Merge { .. } => DISTRUST.into(),
            _ => return None,
        })
    }

    pub(crate) fn document(document: impl Into<String>, source: DocumentError) -> Error {
        Error::Document { document: document.into(), source }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: std::io::Error,
    ) -> Error {
        Error::Store(StoreError::Io { action, path: path.into(), source })
    }
}

const DISTRUST: &str = "no honest tool writes such a layer; do not trust this image";

fn layer_hint(error: &LayerError) -> Option<String> {
    Some(match error {
        LayerError::Write(source) => return crate::store::space_hint(source),
        LayerError::Limit { what, .. } => return what.hint(),
        LayerError::DotDot { .. } | LayerError::Name { .. } | LayerError::Invalid { .. } => {
            DISTRUST.into()
        }
        LayerError::Tar(_)
        | LayerError::Content { .. }
        | LayerError::Decompress(_)
        | LayerError::BlobDigest { .. }
        | LayerError::DiffId { .. } => {
            "the archive is incomplete or was changed; save or download it again".into()
        }
        _ => return None,
    })
}
