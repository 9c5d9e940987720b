//! Makes an image of one layer from the tar of a file tree.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::Store;
use super::files::{failed, read_if_there, sync_files};
use super::intake::{Blobs, Intake};
use super::keep::Origin;
use crate::change::Change;
use crate::digest::Digest;
use crate::error::Error;
use crate::layer::{Budget, Outputs, Summary, unpack_unnamed};
use crate::limits::Limits;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::timestamp::format_rfc3339;

/// What an imported image says of itself.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Its name, if it gets one.
    pub reference: Option<Reference>,
    /// What its history says.
    pub message: String,
    /// In this order.
    pub changes: Vec<Change>,
    /// When it was made.
    pub created: SystemTime,
}

impl Store {
    /// Makes an image of the file tree in a tar, which may be compressed. Gives its id.
    ///
    /// # Errors
    /// If the tar cannot be unpacked, or makes no file tree. The store is then as it was before.
    pub fn import(
        &self,
        input: impl Read + Send,
        options: &ImportOptions,
        limits: &Limits,
    ) -> Result<Digest, Error> {
        self.take_in(limits, Blobs::Keep, |intake| {
            let diff_id = intake.import_layer(input, limits)?;
            let config = configuration(diff_id, options);
            let id = Digest::of(&config);
            let image = intake.image("configuration", config, None, vec![None])?;
            image.missing(0)?;
            let references = options.reference.iter().cloned().collect();
            intake.publish(vec![image.complete(references)?])?;
            Ok(id)
        })
    }

    /// What a layer comes to, if it is in the store.
    pub(super) fn layer_summary(&self, diff_id: Digest) -> Result<Option<Summary>, Error> {
        let path = self.layer(diff_id).join("origin.json");
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let origin: Option<Origin> = serde_json::from_slice(&bytes).ok();
        Ok(origin.map(|origin| origin.summary))
    }
}

impl Intake<'_> {
    /// Unpacks the tar as it comes. Nobody has said what its digest is, so whether the layer is there
    /// already shows in the end.
    pub(super) fn import_layer(
        &self,
        input: impl Read + Send,
        limits: &Limits,
    ) -> Result<Digest, Error> {
        let folder = tempfile::tempdir_in(self.folder())
            .map_err(failed("create a folder in", self.folder()))?;
        let beside = tempfile::tempdir_in(self.folder())
            .map_err(failed("create a folder in", self.folder()))?;
        let create = |path: &Path| File::create_new(path).map_err(failed("create", path));
        let blob = beside.path().join("blob");
        let outputs = Outputs {
            data: create(&folder.path().join("data"))?,
            tree: create(&folder.path().join("tree"))?,
            blob: Some(create(&blob)?),
            records: None,
        };
        let (diff_id, unpacked) = unpack_unnamed(input, &outputs, &Budget::new(limits))
            .map_err(|source| Error::Import { source })?;
        if self.known_layer(diff_id)?.is_some() {
            return Ok(diff_id);
        }
        let files: Vec<&File> =
            [&outputs.data, &outputs.tree].into_iter().chain(&outputs.blob).collect();
        sync_files(&files).map_err(failed("sync", folder.path()))?;
        let origin = Origin {
            blob: unpacked.blob,
            blob_size: unpacked.blob_size,
            media_type: unpacked.media_type.to_owned(),
            summary: unpacked.summary,
        };
        self.keep_renamed(&blob, origin.blob)?;
        self.keep_layer(folder, diff_id, &origin)?;
        Ok(diff_id)
    }
}

/// The configuration document, in the shape that Docker gives an imported image.
fn configuration(diff_id: Digest, options: &ImportOptions) -> Vec<u8> {
    let mut config = Map::new();
    options.changes.iter().for_each(|change| change.apply(&mut config));
    let Platform { os, architecture, .. } = Platform::host();
    let (created, comment) = (format_rfc3339(options.created), &options.message);
    let document = json!({
        "architecture": architecture,
        "comment": comment,
        "config": Value::Object(config),
        "created": created,
        "history": [{ "created": created, "comment": comment }],
        "os": os,
        "rootfs": { "type": "layers", "diff_ids": [diff_id.to_string()] },
    });
    document.to_string().into_bytes()
}
