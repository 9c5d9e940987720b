//! OCI image layouts: `index.json` leads to manifests, manifests to blobs (image-layout.md).

use super::{Archive, ArchivedImage, ArchivedLayer};
use crate::digest::Digest;
use crate::document::DocumentError;
use crate::error::Error;
use crate::limits::Limits;
use crate::manifest::{Descriptor, Document, Manifest, choose};
use crate::platform::Platform;
use crate::reference::Reference;

pub(super) const INDEX: &str = "index.json";

/// Indexes that lead to indexes: buildx writes one below the first.
const NESTING_LIMIT: usize = 4;

/// A whole name, as containerd writes it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// A tag, or with many tools a whole name.
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

/// The images that `index.json` leads to: each of its manifests, and of each nested index the one
/// for this machine.
pub(super) fn images(archive: &Archive, limits: &Limits) -> Result<Vec<ArchivedImage>, Error> {
    let bytes = archive.document(INDEX, limits)?;
    let document = Document::parse(&bytes).map_err(|source| Error::document(INDEX, source))?;
    let Document::Index(descriptors) = document else {
        return Err(Error::document(INDEX, DocumentError::Ambiguous));
    };
    let mut images = Vec::new();
    for descriptor in descriptors.iter().filter(|descriptor| !descriptor.is_attestation()) {
        images.push(image(archive, descriptor, limits)?);
    }
    if images.is_empty() {
        return Err(archive.missing("images"));
    }
    Ok(images)
}

fn image(archive: &Archive, named: &Descriptor, limits: &Limits) -> Result<ArchivedImage, Error> {
    let mut digest = named.digest;
    for _ in 0..NESTING_LIMIT {
        let bytes = blob_document(archive, digest, limits)?;
        match parse(digest, &bytes)? {
            Document::Index(descriptors) => {
                digest = choose(&descriptors, &Platform::host())?.digest
            }
            Document::Manifest(manifest) => {
                return Ok(from_manifest(manifest, bytes, references(named)));
            }
        }
    }
    Err(Error::document(named.digest.to_string(), DocumentError::Nesting))
}

fn from_manifest(manifest: Manifest, bytes: Vec<u8>, references: Vec<Reference>) -> ArchivedImage {
    let layer = |descriptor: Descriptor| ArchivedLayer {
        member: blob(descriptor.digest),
        descriptor: Some(descriptor),
    };
    ArchivedImage {
        references,
        config: (blob(manifest.config.digest), Some(manifest.config.digest)),
        layers: manifest.layers.into_iter().map(layer).collect(),
        manifest: Some(bytes),
    }
}

fn parse(digest: Digest, bytes: &[u8]) -> Result<Document, Error> {
    Document::parse(bytes).map_err(|source| Error::document(digest.to_string(), source))
}

fn blob_document(archive: &Archive, digest: Digest, limits: &Limits) -> Result<Vec<u8>, Error> {
    let member = blob(digest);
    let bytes = archive.document(&member, limits)?;
    let actual = Digest::of(&bytes);
    if actual != digest {
        return Err(Error::WrongDigest { what: member, expected: digest, actual });
    }
    Ok(bytes)
}

fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A bare tag says nothing about the repository, so it names nothing; anything that is no
/// reference at all is ignored, as the annotation is free text.
fn references(descriptor: &Descriptor) -> Vec<Reference> {
    let whole = descriptor.annotation(CONTAINERD_NAME);
    let name = descriptor.annotation(OCI_NAME).filter(|name| name.contains([':', '/']));
    whole.or(name).and_then(|name| name.parse().ok()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::for_platform;

    #[test]
    fn annotations_name_images_if_they_name_a_repository() {
        let cases = [
            (OCI_NAME, "bookworm", None),
            (OCI_NAME, "debian:bookworm", Some("docker.io/library/debian:bookworm")),
            (OCI_NAME, "quay.io/a/b", Some("quay.io/a/b:latest")),
            (OCI_NAME, "not a name:", None),
            (CONTAINERD_NAME, "docker.io/library/x:1", Some("docker.io/library/x:1")),
        ];
        for (key, value, expected) in cases {
            let annotations = [(key.to_owned(), value.to_owned())].into();
            let named = Descriptor { annotations: Some(annotations), ..for_platform("linux", "x") };
            let names: Vec<String> = references(&named).iter().map(Reference::to_string).collect();
            assert_eq!(names.first().map(String::as_str), expected);
        }
    }
}
