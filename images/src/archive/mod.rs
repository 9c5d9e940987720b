//! Image archives: Docker's, OCI's, as a tar, a compressed tar or a folder. Says what is in them.

mod docker;
mod members;
mod oci;

use std::io::Read;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::error::Error;
use crate::limits::{Excess, Limits};
use crate::manifest::Descriptor;
use crate::reference::Reference;

pub(crate) use members::Archive;

/// Where [`Store::load`](crate::Store::load) takes an archive from.
pub enum LoadSource {
    /// A stream such as standard input: spooled to a temporary file in the store, since an archive
    /// may name its layers last.
    Reader(Box<dyn Read>),
    /// A file, or a folder in OCI image layout.
    Path(PathBuf),
}

/// One image of an archive, by the names of its members.
#[derive(Debug)]
pub(crate) struct ArchivedImage {
    pub(crate) references: Vec<Reference>,
    /// Member with the configuration, and the digest it must have if the archive says so.
    pub(crate) config: (String, Option<Digest>),
    /// From the base upwards.
    pub(crate) layers: Vec<ArchivedLayer>,
    /// The manifest's own bytes, where there is one: its digest is to survive.
    pub(crate) manifest: Option<Vec<u8>>,
}

/// A layer's member, and what the manifest says about it, if anything.
#[derive(Debug)]
pub(crate) struct ArchivedLayer {
    pub(crate) member: String,
    pub(crate) descriptor: Option<Descriptor>,
}

/// The images in the archive. `manifest.json` comes first: where both are there, it has the names, and
/// the other one the manifests.
pub(crate) fn images(archive: &Archive, limits: &Limits) -> Result<Vec<ArchivedImage>, Error> {
    let images = if archive.contains(docker::MANIFEST) {
        let mut images = docker::images(archive, limits)?;
        if archive.contains(oci::INDEX) {
            keep_manifests(&mut images, archive, limits);
        }
        images
    } else if archive.contains(oci::INDEX) {
        oci::images(archive, limits)?
    } else {
        return Err(archive.missing("manifest.json or index.json"));
    };
    if images.len() > limits.max_archive_members {
        return Err(archive.limit(Excess::Images, limits.max_archive_members as u64));
    }
    Ok(images)
}

/// Gives each image the manifest that the archive's OCI side has for the same configuration and the
/// same layers. What that side says about anything else, or how it is broken, does not count.
fn keep_manifests(images: &mut [ArchivedImage], archive: &Archive, limits: &Limits) {
    let Ok(described) = oci::images(archive, limits) else { return };
    for image in images {
        let members = |image: &ArchivedImage| {
            let layers = image.layers.iter().map(|layer| layer.member.clone());
            layers.chain([image.config.0.clone()]).collect::<Vec<_>>()
        };
        let wanted = members(image);
        if let Some(twin) = described.iter().find(|twin| members(twin) == wanted) {
            let descriptors = twin.layers.iter().map(|layer| layer.descriptor.clone());
            image.layers.iter_mut().zip(descriptors).for_each(|(layer, descriptor)| {
                layer.descriptor = descriptor;
            });
            image.manifest.clone_from(&twin.manifest);
        }
    }
}
