//! An image's name in, a read-only disk out. Knows no VMs, no registries, and no async.
//!
//! [`Store::load`] takes an archive apart, [`Store::find`] gives an [`Image`] by name or id, and
//! [`Image::disk`] says which byte ranges of which files make up its disk.
//! docs/image-store.md describes what lies where, and why a crash loses nothing.
#![forbid(unsafe_code)]

mod archive;
mod change;
mod compression;
mod config;
pub mod configuration;
mod digest;
mod document;
mod erofs;
mod error;
mod events;
mod export;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod layer;
mod limits;
mod manifest;
mod platform;
mod reference;
mod rootfs;
mod store;
pub mod tar;
mod timestamp;
mod transfer;

pub use archive::LoadSource;
pub use change::{Change, ChangeError};
pub use compression::Compressor;
pub use config::{HealthCheck, History, ImageConfig};
pub use digest::{Digest, DigestError, Hasher};
pub use document::DocumentError;
pub use error::Error;
pub use events::{Actor, Event, EventLog};
pub use layer::LayerError;
pub use limits::{Excess, Limits};
pub use manifest::{Descriptor, Document, Manifest, choose};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use rootfs::MergeError;
pub use store::{
    Blobs, CommitOptions, Committed, Complete, Damage, Depth, Disk, Extent, Findings, Image,
    ImageLock, ImageUsage, ImportOptions, Incoming, Intake, Loaded, Missing, Output, Parts, Pruned,
    Removed, SaveTarget, Store, StoreError, Usage, Users, no_users,
};
pub use tar::TarError;
pub use timestamp::{format_rfc3339, parse_rfc3339};
pub use transfer::{Fetch, Login, Order, Pull, Push, Tags, Talk, Transfer};
