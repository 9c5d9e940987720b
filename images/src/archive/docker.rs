//! Docker archives, as `docker save` and `skopeo copy … docker-archive:` write them.

use super::{Archive, ArchivedImage, ArchivedLayer};
use crate::digest::Digest;
use crate::document;
use crate::error::Error;
use crate::limits::Limits;
use crate::manifest::ArchiveManifest;
use crate::reference::Reference;

pub(super) const MANIFEST: &str = "manifest.json";

/// The images that `manifest.json` lists.
pub(super) fn images(archive: &Archive, limits: &Limits) -> Result<Vec<ArchivedImage>, Error> {
    let bytes = archive.document(MANIFEST, limits)?;
    let manifests: Vec<ArchiveManifest> =
        document::parse(&bytes).map_err(|source| Error::document(MANIFEST, source))?;
    manifests.into_iter().map(image).collect()
}

fn image(manifest: ArchiveManifest) -> Result<ArchivedImage, Error> {
    let tags = manifest.repo_tags.unwrap_or_default();
    let references: Result<Vec<Reference>, _> = tags.iter().map(|tag| tag.parse()).collect();
    let layer = |member| ArchivedLayer { member, descriptor: None };
    let digest = digest_in_name(&manifest.config);
    Ok(ArchivedImage {
        references: references?,
        layers: manifest.layers.unwrap_or_default().into_iter().map(layer).collect(),
        config: (manifest.config, digest),
        manifest: None,
    })
}

/// The configuration is called `<digest>.json`, or `blobs/sha256/<digest>` by newer writers.
fn digest_in_name(member: &str) -> Option<Digest> {
    let base = member.rsplit('/').next().unwrap_or(member);
    Digest::from_hex(base.strip_suffix(".json").unwrap_or(base)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_in_the_name_of_a_configuration_counts() {
        let digest = Digest::of(b"");
        let names = [format!("{}.json", digest.hex()), format!("blobs/sha256/{}", digest.hex())];
        for name in names {
            assert_eq!(digest_in_name(&name), Some(digest));
        }
        assert_eq!(digest_in_name("config.json"), None);
    }
}
