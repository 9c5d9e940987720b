//! Layers: unpacked, merged and made into a disk.

use std::fs;
use std::io::Read;

use super::sandbox::Sandbox;
use super::tar::sealed;
use crate::compression::decompress;
use crate::{Digest, Error, LoadSource};

/// What of a decompressed layer is hashed; the store takes no more anyway.
const MAX_BYTES: u64 = 4 << 20;

/// Loads an image of one or two layers. The first byte of `bytes` says how many blocks of 512 the
/// first one has, if there are two; the rest is the layers, each plain or compressed.
///
/// # Panics
/// When the store is not what it should be afterwards, or refuses a layer for its digest.
pub fn layer(bytes: &[u8]) {
    let Some((blocks, bytes)) = bytes.split_first() else { return };
    let (first, second) =
        bytes.split_at_checked(usize::from(*blocks) * 512).unwrap_or((bytes, b""));
    let layers: Vec<Vec<u8>> =
        [first, second].into_iter().filter(|layer| !layer.is_empty()).map(sealed).collect();
    let sandbox = Sandbox::new();
    let folder = sandbox.beside();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).expect("the host has room");
    };
    let (mut names, mut diff_ids) = (Vec::new(), Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        let name = number.to_string();
        put(&name, layer);
        names.push(name);
        diff_ids.push(plain_digest(layer).to_string());
    }
    let config = serde_json::json!({ "rootfs": { "diff_ids": diff_ids } });
    let manifest = serde_json::json!([{ "Config": "config", "Layers": names }]);
    put("config", config.to_string().as_bytes());
    put("manifest.json", manifest.to_string().as_bytes());
    let loaded = sandbox.load(LoadSource::Path(folder));
    assert!(!matches!(loaded, Err(Error::WrongDigest { .. } | Error::Document { .. })));
}

/// The digest of the decompressed layer, or of what can be decompressed of it.
fn plain_digest(layer: &[u8]) -> Digest {
    let mut plain = Vec::new();
    if let Ok(reader) = decompress(layer) {
        // Where it breaks off, the store refuses it.
        let _complete = reader.take(MAX_BYTES).read_to_end(&mut plain);
    }
    Digest::of(&plain)
}
