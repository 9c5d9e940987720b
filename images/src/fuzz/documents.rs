//! The JSON documents of images: manifests, indexes, configurations, lists of archives.

use crate::config::ImageConfig;
use crate::document;
use crate::manifest::{ArchiveManifest, Document, choose};
use crate::platform::Platform;

/// Parses `bytes` as every kind of document.
///
/// # Panics
/// When a configuration lets a NUL byte through to what becomes a process, or the manifest that is
/// chosen from an index is not in it.
pub fn documents(bytes: &[u8]) {
    if let Ok(Document::Index(descriptors)) = Document::parse(bytes)
        && let Ok(chosen) = choose(&descriptors, &Platform::host())
    {
        assert!(descriptors.contains(chosen));
    }
    let _list = document::parse::<Vec<ArchiveManifest>>(bytes);
    if let Ok(config) = ImageConfig::parse(bytes) {
        let words =
            [&config.entrypoint, &config.cmd, &config.shell].into_iter().flatten().flatten();
        let texts = words.chain(&config.env).chain(&config.volumes);
        for text in texts.chain([&config.user, &config.working_dir]) {
            assert!(!text.contains('\0'), "{text:?}");
        }
    }
}
