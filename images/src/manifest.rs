//! Image manifests and indexes: OCI's, Docker's schema 2, and `manifest.json` of Docker archives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::document::{self, DocumentError};
use crate::error::Error;
use crate::platform::Platform;

/// What a manifest or an index says of a blob: OCI image-spec, descriptor.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Such as `application/vnd.oci.image.layer.v1.tar+gzip`; often missing.
    #[serde(default)]
    pub media_type: String,
    /// Of the bytes.
    pub digest: Digest,
    /// Their number; what it says need not be true.
    #[serde(default)]
    pub size: u64,
    /// In an index: what the image is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// BuildKit puts provenance beside images, for the platform `unknown/unknown`.
    pub(crate) fn is_attestation(&self) -> bool {
        let unknown = self.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        unknown || self.annotation("vnd.docker.reference.type") == Some("attestation-manifest")
    }
}

/// One image: its configuration and its layers from the base upwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// From the base upwards.
    pub layers: Vec<Descriptor>,
}

/// What a document with a `schemaVersion` of 2 can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images for several platforms.
    Index(Vec<Descriptor>),
}

/// One image of a Docker archive's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ArchiveManifest {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) layers: Option<Vec<String>>,
}

/// What the configuration of a container image goes by, in OCI's words and in Docker's.
pub(crate) const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

impl Document {
    /// Tells manifest and index by their fields, since media types are often missing. A document
    /// with the fields of both is refused: readers would disagree on what it says (CVE-2021-41190).
    ///
    /// # Errors
    /// If it is no JSON, or neither of the two, or does not describe a container image.
    pub fn parse(bytes: &[u8]) -> Result<Document, DocumentError> {
        #[derive(Deserialize)]
        struct Raw {
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
        }
        let raw: Raw = document::parse(bytes)?;
        match raw {
            Raw { config: Some(config), layers, manifests: None } => {
                let is_config = config.media_type.is_empty()
                    || CONFIG_TYPES.contains(&config.media_type.as_str());
                if !is_config {
                    return Err(DocumentError::NotAnImage { media_type: config.media_type });
                }
                Ok(Document::Manifest(Manifest { config, layers: layers.unwrap_or_default() }))
            }
            Raw { config: None, layers: None, manifests: Some(manifests) } => {
                Ok(Document::Index(manifests))
            }
            _ => Err(DocumentError::Ambiguous),
        }
    }
}

/// Of an index's images, the one that runs on `wanted`.
///
/// # Errors
/// [`Error::NoPlatform`] names those that are there.
pub fn choose<'a>(
    descriptors: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, Error> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| platform.runs_on(wanted))
    };
    let images = || descriptors.iter().filter(|descriptor| !descriptor.is_attestation());
    let variant = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| platform.variant == wanted.variant)
    };
    if let Some(chosen) = images().filter(fits).find(variant).or_else(|| images().find(fits)) {
        return Ok(chosen);
    }
    // An index of one image without a platform can only mean that one.
    if let [only] = descriptors
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let found: Vec<String> =
        images().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    Err(Error::NoPlatform { wanted: wanted.to_string(), found })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        let digest = Digest::of(b"x");
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#)
    }

    #[test]
    fn manifests_and_indexes_are_told_by_their_fields() {
        let config = descriptor(CONFIG_TYPES[0]);
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        let Document::Manifest(manifest) = Document::parse(manifest.as_bytes()).unwrap() else {
            panic!("not a manifest")
        };
        assert_eq!(manifest.layers.len(), 1);
        let index = format!(r#"{{"manifests":[{layer},{layer}]}}"#);
        assert!(
            matches!(Document::parse(index.as_bytes()), Ok(Document::Index(list)) if list.len() == 2)
        );
        let both = format!(r#"{{"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(matches!(Document::parse(both.as_bytes()), Err(DocumentError::Ambiguous)));
        assert!(matches!(Document::parse(b"{}"), Err(DocumentError::Ambiguous)));
        let chart = descriptor("application/vnd.cncf.helm.config.v1+json");
        let chart = format!(r#"{{"config":{chart},"layers":[]}}"#);
        assert!(matches!(Document::parse(chart.as_bytes()), Err(DocumentError::NotAnImage { .. })));
    }

    pub(crate) fn for_platform(os: &str, architecture: &str) -> Descriptor {
        let platform =
            Platform { os: os.into(), architecture: architecture.into(), variant: String::new() };
        Descriptor {
            media_type: String::new(),
            digest: Digest::of(architecture.as_bytes()),
            size: 1,
            platform: Some(platform),
            annotations: None,
        }
    }

    #[test]
    fn the_manifest_for_this_machine_is_chosen() {
        let host = Platform::host();
        let list = [
            for_platform("unknown", "unknown"),
            for_platform("linux", "s390x"),
            for_platform("linux", &host.architecture),
        ];
        assert_eq!(choose(&list, &host).unwrap().digest, list[2].digest);
        let error = choose(&list[..2], &host).unwrap_err().to_string();
        assert!(error.contains("linux/s390x") && !error.contains("unknown"), "{error}");
    }
}
