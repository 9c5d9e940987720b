//! Image manifests and indexes: OCI's, Docker's schema 2, and `manifest.json` of Docker archives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::document::{self, DocumentError};
use crate::platform::Platform;

/// OCI image-spec, descriptor.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// One image: its configuration and its layers from the base upwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a document with a `schemaVersion` of 2 can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
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

const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

impl Document {
    /// Tells manifest and index by their fields, since media types are often missing. A document
    /// with the fields of both is refused: readers would disagree on what it says (CVE-2021-41190).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Document, DocumentError> {
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

#[cfg(test)]
mod tests {
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
}
