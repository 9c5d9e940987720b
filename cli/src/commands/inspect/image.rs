//! An image as `inspect` shows it.

use images::{Image, Store, format_rfc3339};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// What Docker's API calls `ImageInspect`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspection {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: Option<String>,
    docker_version: String,
    author: String,
    config: Value,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    size: u64,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    layers: Vec<String>,
}

/// When an image was tagged last is not kept; this is how Docker says so.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: &'static str,
}

/// Everything that is known about an image.
pub(super) fn inspect(store: &Store, name: &str) -> Result<Inspection, Failure> {
    let image = store.find(name)?;
    let document: Map<String, Value> =
        serde_json::from_slice(&image.document()?).map_err(std::io::Error::from)?;
    Ok(inspection(&image, document))
}

fn inspection(image: &Image, mut document: Map<String, Value>) -> Inspection {
    let text = |key: &str| {
        document.get(key).and_then(Value::as_str).map(str::to_owned).unwrap_or_default()
    };
    let (comment, author, docker_version) =
        (text("comment"), text("author"), text("docker_version"));
    let mut digests: Vec<String> = Vec::new();
    for (reference, manifest) in image.references.iter().zip(std::iter::repeat(image.manifest)) {
        let digest = reference.digest().or(manifest);
        digests.extend(digest.map(|digest| format!("{}@{digest}", reference.familiar_name())));
    }
    digests.dedup();
    let tagged = image.references.iter().filter_map(|reference| {
        Some(format!("{}:{}", reference.familiar_name(), reference.tag()?))
    });
    let config = match document.remove("config") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    Inspection {
        id: image.id.to_string(),
        repo_tags: tagged.collect(),
        repo_digests: digests,
        parent: String::new(),
        comment,
        created: image.created.map(format_rfc3339),
        docker_version,
        author,
        config: completed(config),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone(),
        os: image.config.os.clone(),
        size: image.size,
        root_fs: RootFs {
            r#type: "layers",
            layers: image.layers().iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata { last_tag_time: "0001-01-01T00:00:00Z" },
    }
}

/// The configuration as it came, with the fields that Docker always shows.
fn completed(mut config: Map<String, Value>) -> Value {
    for key in ["User", "WorkingDir"] {
        config.entry(key).or_insert_with(|| "".into());
    }
    for key in ["Cmd", "Entrypoint", "Env", "ExposedPorts", "Labels", "OnBuild", "Volumes"] {
        config.entry(key).or_insert(Value::Null);
    }
    config.into()
}
