//! An image that comes without a manifest first and with one later.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;

use common::{Layer, Sandbox, docker_archive, gzip, layer, oci_layout, pack};
use hyperrun_images::{
    Depth, Digest, Error, Findings, Limits, LoadSource, Output, SaveTarget, Store,
};
use tests::SmallDisk;

const NAME: &str = "some/web:1";

/// The image as an OCI archive, and the digest of its manifest.
fn with_manifest(layers: &[Vec<u8>]) -> (Vec<u8>, Digest) {
    let stored: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let files = oci_layout(NAME, layers, &stored);
    let digest = Digest::of(&files.last().unwrap().1);
    (pack(&files), digest)
}

fn whole(sandbox: &Sandbox) -> Findings {
    let findings = sandbox.store.check(Depth::Contents).unwrap();
    assert_eq!(findings.damaged, []);
    assert_eq!(findings.unused, Some(Vec::new()));
    findings
}

fn save(sandbox: &Sandbox) -> Vec<u8> {
    let mut archive = Vec::new();
    let output = Output { writer: &mut archive, name: "memory" };
    sandbox.store.save(&[NAME.to_owned()], SaveTarget::OciArchive(output)).unwrap();
    archive
}

#[test]
fn the_manifest_is_kept_and_saved() {
    let sandbox = Sandbox::new();
    let layers = [layer(), Layer::new().file("b", b"2").finish()];
    let (archive, digest) = with_manifest(&layers);
    sandbox.load(docker_archive(NAME, &layers)).unwrap();
    assert_eq!(sandbox.store.find(NAME).unwrap().manifest, None);
    let in_use = sandbox.store.find(NAME).unwrap().lock().unwrap();
    sandbox.load(archive.clone()).unwrap();
    // Another removal clears up what nobody needs; what the first record names is still read perhaps.
    sandbox.load(docker_archive("other:1", &[])).unwrap();
    sandbox.store.remove("other:1", false, &hyperrun_images::no_users).unwrap();
    assert_eq!(sandbox.store.find(NAME).unwrap().manifest, Some(digest));
    assert!(sandbox.store.find(&format!("some/web@{digest}")).is_ok());
    // Plain and compressed layers, the configuration and the manifest.
    assert_eq!((whole(&sandbox).images, whole(&sandbox).blobs), (1, 6));

    let other = Sandbox::new();
    other.load(save(&sandbox)).unwrap();
    assert_eq!(other.store.find(NAME).unwrap().manifest, Some(digest));

    // What came without one takes none away.
    let before = sandbox.files();
    sandbox.load(docker_archive(NAME, &layers)).unwrap();
    assert_eq!(sandbox.files(), before);
    assert_eq!(sandbox.store.find(NAME).unwrap().manifest, Some(digest));

    assert!(matches!(
        sandbox.store.remove(NAME, false, &hyperrun_images::no_users),
        Err(Error::InUse { .. })
    ));
    drop(in_use);
    sandbox.store.remove(NAME, false, &hyperrun_images::no_users).unwrap();
    let mut left = sandbox.files();
    left.retain(|path| !path.ends_with("names.json"));
    assert_eq!(left, Sandbox::new().files());
    // It does not come back with the image.
    sandbox.load(docker_archive(NAME, &layers)).unwrap();
    assert_eq!(sandbox.store.find(NAME).unwrap().manifest, None);
}

/// Leaves so many bytes of a disk free, as long as what is given lives.
fn fill(disk: &SmallDisk, free: u64) -> tempfile::NamedTempFile {
    let there = rustix::fs::statvfs(disk.path()).unwrap();
    let filler = tempfile::NamedTempFile::new_in(disk.path()).unwrap();
    let length = there.f_bavail * there.f_frsize - free;
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(filler.as_file(), flags, 0, length).unwrap();
    filler
}

#[test]
fn a_full_disk_leaves_the_image_without_one() {
    let disk = SmallDisk::new(3);
    let root = disk.path().join("images");
    let store = Store::open(&root).unwrap();
    let load = |archive: &[u8]| {
        let source = LoadSource::Reader(Box::new(std::io::Cursor::new(archive.to_vec())));
        store.load(source, &Limits::default())
    };
    let layers = [layer()];
    load(&docker_archive(NAME, &layers)).unwrap();
    let before = common::files(&root);
    let (archive, digest) = with_manifest(&layers);
    let mut failures = 0;
    for free in (1..).map(|pages| pages * 4096) {
        let filler = fill(&disk, free);
        let loaded = load(&archive);
        drop(filler);
        let Err(error) = loaded else { break };
        assert!(common::chain(&error).contains("No space left on device"), "{free}");
        assert_eq!(common::files(&root), before, "{free} bytes free");
        assert_eq!(store.find(NAME).unwrap().manifest, None, "{free} bytes free");
        failures += 1;
    }
    assert!(failures > 3, "only {failures} steps");
    assert_eq!(store.find(NAME).unwrap().manifest, Some(digest));
}

#[test]
fn a_manifest_of_another_image_is_damage() {
    let sandbox = Sandbox::new();
    let layers = [layer()];
    sandbox.load(docker_archive(NAME, &layers)).unwrap();
    sandbox.load(with_manifest(&layers).0).unwrap();
    let id = sandbox.store.find(NAME).unwrap().id.hex();
    let path = sandbox.root().join(format!("records/{id}.manifest.json"));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen(&id, &"0".repeat(64), 1)).unwrap();
    let findings = sandbox.store.check(Depth::Files).unwrap();
    assert_eq!(findings.damaged.len(), 1);
    assert_eq!(findings.damaged[0].path, path);
    assert!(findings.damaged[0].reason.contains("of another image"));
}
