//! Which files an archive of images has: decides everything, writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::Selected;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::store::Store;
use crate::store::files::{failed, read_if_there};
use crate::store::record::{LayerRecord, Record};

/// A file of the archive.
pub(super) struct Member {
    pub(super) path: String,
    pub(super) content: Content,
}

pub(super) enum Content {
    Document(Vec<u8>),
    /// A blob of the store.
    Blob {
        digest: Digest,
        size: u64,
        path: PathBuf,
    },
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        match self {
            Content::Document(bytes) => bytes.len() as u64,
            Content::Blob { size, .. } => *size,
        }
    }
}

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// OCI image-spec, manifest.md.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewManifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// OCI image-spec, image-index.md.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// An element of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The files of an OCI image layout (image-layout.md).
pub(super) fn oci(store: &Store, images: &[Selected]) -> Result<Vec<Member>, Error> {
    let mut layout = Layout { store, blobs: BTreeMap::new() };
    let mut manifests = Vec::new();
    for Selected { image, reference } in images {
        let mut descriptor = layout.image(image.record())?;
        if let Some(reference) = reference {
            let short =
                reference.tag().map(|tag| ("org.opencontainers.image.ref.name", tag.into()));
            let whole = ("io.containerd.image.name", reference.to_string());
            let named = [Some(whole), short].into_iter().flatten();
            descriptor.annotations =
                Some(named.map(|(key, value)| (key.to_owned(), value)).collect());
        }
        if !manifests.contains(&descriptor) {
            manifests.push(descriptor);
        }
    }
    let index = Index { schema_version: 2, media_type: INDEX_TYPE, manifests };
    let mut members = vec![
        document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        document("index.json", to_json(&index)),
    ];
    let blobs = layout.blobs.into_iter();
    members.extend(blobs.map(|(digest, content)| Member { path: blob_path(digest), content }));
    Ok(members)
}

/// The same with `manifest.json`: what `docker save` writes since its version 25.
pub(super) fn docker(store: &Store, images: &[Selected]) -> Result<Vec<Member>, Error> {
    let mut members = oci(store, images)?;
    let mut names: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    let mut entries = Vec::new();
    for Selected { image, reference } in images {
        let known = names.contains_key(&image.id);
        names.entry(image.id).or_default().extend(reference.iter().map(|name| name.familiar()));
        if !known {
            entries.push(image);
        }
    }
    let entries: Vec<ArchiveEntry> = entries
        .into_iter()
        .map(|image| {
            let tags: Vec<String> = names[&image.id].iter().cloned().collect();
            let layers = image.record().layers.iter();
            ArchiveEntry {
                config: blob_path(image.id),
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: layers.map(|layer| blob_path(layer.blob)).collect(),
            }
        })
        .collect();
    members.insert(2, document("manifest.json", to_json(&entries)));
    Ok(members)
}

struct Layout<'a> {
    store: &'a Store,
    blobs: BTreeMap<Digest, Content>,
}

impl Layout<'_> {
    /// Adds an image's blobs; gives the descriptor of its manifest.
    fn image(&mut self, record: &Record) -> Result<Descriptor, Error> {
        let config = self.document(record.config)?;
        for layer in &record.layers {
            let path = self.store.blob(layer.blob);
            let content = Content::Blob { digest: layer.blob, size: layer.blob_size, path };
            self.blobs.insert(layer.blob, content);
        }
        match record.manifest {
            Some(digest) => {
                let bytes = self.document(digest)?;
                let media_type = media_type(&bytes).unwrap_or_else(|| MANIFEST_TYPE.to_owned());
                Ok(descriptor(&media_type, digest, bytes.len() as u64))
            }
            None => {
                let manifest = to_json(&new_manifest(record, config.len() as u64));
                let digest = Digest::of(&manifest);
                let found = descriptor(MANIFEST_TYPE, digest, manifest.len() as u64);
                self.blobs.insert(digest, Content::Document(manifest));
                Ok(found)
            }
        }
    }

    /// Adds a configuration or manifest; gives its bytes.
    fn document(&mut self, digest: Digest) -> Result<Vec<u8>, Error> {
        let path = self.store.blob(digest);
        let Some(bytes) = read_if_there(&path)? else {
            return Err(failed("read", &path)(std::io::ErrorKind::NotFound.into()).into());
        };
        let content = Content::Blob { digest, size: bytes.len() as u64, path };
        self.blobs.insert(digest, content);
        Ok(bytes)
    }
}

/// A manifest for an image that came without one.
fn new_manifest(record: &Record, config_size: u64) -> NewManifest {
    let layer = |layer: &LayerRecord| {
        descriptor(oci_layer_type(&layer.media_type), layer.blob, layer.blob_size)
    };
    NewManifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE,
        config: descriptor(CONFIG_TYPE, record.config, config_size),
        layers: record.layers.iter().map(layer).collect(),
    }
}

/// OCI's name for a layer's media type, which may be Docker's.
fn oci_layer_type(media_type: &str) -> &'static str {
    if media_type.ends_with("gzip") {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    } else if media_type.ends_with("zstd") {
        "application/vnd.oci.image.layer.v1.tar+zstd"
    } else {
        "application/vnd.oci.image.layer.v1.tar"
    }
}

/// What a manifest says that it is.
fn media_type(manifest: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    document.get("mediaType")?.as_str().map(str::to_owned)
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    let media_type = media_type.to_owned();
    Descriptor { media_type, digest, size, platform: None, annotations: None }
}

fn document(path: &str, bytes: Vec<u8>) -> Member {
    Member { path: path.to_owned(), content: Content::Document(bytes) }
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers are JSON")
}
