//! Makes an image of one layer from the tar of a file tree.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::files::{create_private_folder, failed, read_if_there, sync_folder, write_atomically};
use super::load::{Loaded, Origin};
use super::record::{LayerRecord, Record};
use super::{Store, disk};
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
        input: impl Read,
        options: &ImportOptions,
        limits: &Limits,
    ) -> Result<Digest, Error> {
        let imported = self.import_locked(input, options, limits);
        if imported.is_err() {
            // Best effort: what is left now, the next collection takes.
            let _left = self.collect();
        }
        imported
    }

    fn import_locked(
        &self,
        input: impl Read,
        options: &ImportOptions,
        limits: &Limits,
    ) -> Result<Digest, Error> {
        let _busy = self.lock_shared()?;
        let (diff_id, origin) = self.import_layer(input, limits)?;
        let config = configuration(diff_id, options);
        let id = Digest::of(&config);
        let path = self.blob(id);
        if !path.try_exists().map_err(failed("look for", &path))? {
            write_atomically(&self.temporary(), &path, &config)?;
        }
        let Origin { blob, blob_size, media_type, summary } = origin;
        let layers = vec![LayerRecord { diff_id, blob, blob_size, media_type }];
        let record = Record { config: id, manifest: None, layers, size: summary.content_bytes };
        disk::ensure(self, id, &record)?;
        let references = options.reference.iter().cloned().collect();
        self.publish(&[(Loaded { id, references }, record)])?;
        Ok(id)
    }

    /// Unpacks the tar as it comes. Nobody has said what its digest is, so whether the layer is there
    /// already shows in the end.
    fn import_layer(&self, input: impl Read, limits: &Limits) -> Result<(Digest, Origin), Error> {
        let temporary = self.temporary();
        let folder =
            tempfile::tempdir_in(&temporary).map_err(failed("create a folder in", &temporary))?;
        let layer = folder.path().join("layer");
        create_private_folder(&layer)?;
        let create = |path: &Path| File::create_new(path).map_err(failed("create", path));
        let blob_path = folder.path().join("blob");
        let outputs = Outputs {
            data: create(&layer.join("data"))?,
            tree: create(&layer.join("tree"))?,
            blob: Some(create(&blob_path)?),
        };
        let mut budget = Budget::new(limits);
        let (diff_id, unpacked) = unpack_unnamed(input, &outputs, &mut budget)
            .map_err(|source| Error::Import { source })?;
        for file in [&outputs.data, &outputs.tree].into_iter().chain(&outputs.blob) {
            file.sync_all().map_err(failed("sync", &layer))?;
        }
        let origin = Origin {
            blob: unpacked.blob,
            blob_size: unpacked.blob_size,
            media_type: unpacked.media_type.to_owned(),
            summary: unpacked.summary,
        };
        let blob = self.blob(origin.blob);
        fs::rename(&blob_path, &blob).map_err(failed("create", &blob))?;
        sync_folder(&self.blobs())?;
        self.keep_layer(&layer, diff_id, &origin)?;
        Ok((diff_id, origin))
    }

    fn keep_layer(&self, layer: &Path, diff_id: Digest, origin: &Origin) -> Result<(), Error> {
        let path = layer.join("origin.json");
        let bytes =
            serde_json::to_vec(origin).map_err(|error| failed("write", &path)(error.into()))?;
        write_atomically(&self.temporary(), &path, &bytes)?;
        let home = self.layer(diff_id);
        match fs::rename(layer, &home) {
            Ok(()) => {}
            // It is there already.
            Err(_) if home.try_exists().map_err(failed("look for", &home))? => {}
            Err(error) => return Err(failed("create", &home)(error).into()),
        }
        Ok(sync_folder(&self.layers())?)
    }

    /// What a layer comes to, if it is in the store.
    pub(super) fn layer_summary(&self, diff_id: Digest) -> Result<Option<Summary>, Error> {
        let path = self.layer(diff_id).join("origin.json");
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let origin: Option<Origin> = serde_json::from_slice(&bytes).ok();
        Ok(origin.map(|origin| origin.summary))
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
