//! Images on their way into the store and out of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod refused;
mod trouble;

use std::fs;
use std::path::Path;

use hyperrun_tests::archive::{
    Layer, digest, docker_archive, docker_archive_of, gzip, oci_layout, pack, zstd,
};
use hyperrun_tests::{Sandbox, archive, busybox_archive};

/// A store of its own, empty, that vanishes with the test.
fn empty_store() -> (Sandbox, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(root.path());
    sandbox.hyperrun(["images", "-q"]).code_is(0).stdout_is("");
    (sandbox, root)
}

fn load(sandbox: &Sandbox, archive: &[u8]) -> hyperrun_tests::Output {
    sandbox.hyperrun_with_input(["load"], archive)
}

/// A layer of one file with this content.
fn layer(content: &str) -> Vec<u8> {
    Layer::new().dir("etc").file("etc/motd", content.as_bytes()).finish()
}

/// The id of an image of these layers, as `images` shows it.
fn id(layers: &[Vec<u8>]) -> String {
    let digest = digest(&archive::config(layers));
    digest["sha256:".len()..][..12].to_owned()
}

#[test]
fn an_archive_is_loaded_listed_and_removed() {
    let (sandbox, _root) = empty_store();
    sandbox.hyperrun(["load", "-i", &busybox_archive()]).code_is(0).stdout_has("busybox:latest");
    sandbox.hyperrun(["images"]).code_is(0).stdout_has("busybox").stdout_has("latest");
    sandbox.hyperrun(["rmi", "busybox"]).code_is(0).stdout_has("Untagged: busybox:latest");
    sandbox.hyperrun(["images", "-q"]).code_is(0).stdout_is("");
}

#[test]
fn an_archive_comes_through_standard_input() {
    let (sandbox, _root) = empty_store();
    let bytes = fs::read(busybox_archive()).unwrap();
    sandbox
        .hyperrun_with_input(["load", "-i", "-"], &bytes)
        .code_is(0)
        .stdout_has("busybox:latest");
}

#[test]
fn every_kind_of_archive_is_the_same_image() {
    let layers = [layer("one"), Layer::new().symlink("m", "etc/motd").finish()];
    let config = archive::config(&layers);
    let compressed = |by: fn(&[u8]) -> Vec<u8>| layers.each_ref().map(|layer| by(layer));
    let plain = docker_archive("kinds:1", &layers);
    let folder = oci_layout("kinds:1", &layers, &compressed(zstd));
    let kinds = [
        ("docker", plain.clone()),
        ("docker in gzip", gzip(&plain)),
        ("docker in zstd", zstd(&plain)),
        ("docker of gzip", docker_archive_of("kinds:1", &config, &compressed(gzip))),
        ("docker of zstd", docker_archive_of("kinds:1", &config, &compressed(zstd))),
        ("oci", pack(&oci_layout("kinds:1", &layers, &layers))),
        ("oci of gzip", pack(&oci_layout("kinds:1", &layers, &compressed(gzip)))),
        ("oci of zstd", pack(&folder)),
    ];
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("layout");
    write_files(&path, &folder);
    // A guest's disk is made of these files and nothing else.
    let disk = |sandbox: &Sandbox| {
        let mut stored = sandbox.stored().below(&["disks", "layers"]);
        stored.forget("origin.json");
        stored
    };
    let (sandbox, _root) = empty_store();
    sandbox
        .hyperrun(["load", "-i", path.to_str().unwrap()])
        .code_is(0)
        .stdout_is("Loaded image: kinds:1\n");
    let wanted = disk(&sandbox);
    assert_eq!(wanted.entries().filter(|(path, _)| path.ends_with("meta.erofs")).count(), 1);
    for (kind, archive) in kinds {
        let (sandbox, _root) = empty_store();
        load(&sandbox, &archive).code_is(0).stdout_is("Loaded image: kinds:1\n");
        sandbox.hyperrun(["images", "-q"]).stdout_is(&format!("{}\n", id(&layers)));
        assert_eq!(disk(&sandbox), wanted, "{kind}");
    }
}

fn write_files(folder: &Path, files: &[(String, Vec<u8>)]) {
    for (name, data) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
}

#[test]
fn loading_twice_changes_nothing() {
    let (sandbox, _root) = empty_store();
    let archive = docker_archive("twice:1", &[layer("x")]);
    load(&sandbox, &archive).code_is(0);
    let once = sandbox.stored();
    load(&sandbox, &archive).code_is(0).stdout_is("Loaded image: twice:1\n");
    assert_eq!(sandbox.stored(), once);
}

#[test]
fn an_image_goes_with_its_last_name() {
    let (sandbox, _root) = empty_store();
    let empty = sandbox.stored();
    let layers = [layer("x")];
    let id = id(&layers);
    load(&sandbox, &docker_archive("first:1", &layers)).code_is(0);
    load(&sandbox, &docker_archive("second:2", &layers)).code_is(0);
    let both = sandbox.stored();
    sandbox
        .hyperrun(["rmi", &id])
        .fails_with(1, &format!("error: image {id} has 2 names\nhint: "))
        .stderr_has("`-f`");
    assert_eq!(sandbox.stored(), both);
    sandbox.hyperrun(["rmi", "first:1"]).code_is(0).stdout_is("Untagged: first:1\n");
    let gone = sandbox.hyperrun(["rmi", "second:2"]);
    gone.code_is(0).stdout_has("Untagged: second:2\nDeleted: sha256:").stdout_has(&id);
    let mut left = sandbox.stored();
    left.forget("names.json");
    assert_eq!(left, empty);

    load(&sandbox, &docker_archive("first:1", &layers)).code_is(0);
    load(&sandbox, &docker_archive("second:2", &layers)).code_is(0);
    sandbox
        .hyperrun(["rmi", "-f", &id])
        .code_is(0)
        .stdout_has("Untagged: first:1\nUntagged: second:2\nDeleted: ");
    sandbox.hyperrun(["images", "-q"]).stdout_is("");
}

#[test]
fn ids_may_be_short_but_not_ambiguous() {
    let (sandbox, _root) = empty_store();
    let images: Vec<_> = (0..17).map(|at| [layer(&at.to_string())]).collect();
    for (at, layers) in images.iter().enumerate() {
        load(&sandbox, &docker_archive(&format!("many:{at}"), layers)).code_is(0);
    }
    // Of seventeen ids, two begin with the same of sixteen digits.
    let ids: Vec<String> = images.iter().map(|layers| id(layers)).collect();
    let shared = |id: &&String| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1;
    let (digit, whole) = ids.iter().find(shared).map(|id| (&id[..1], id)).unwrap();
    let before = sandbox.stored();
    sandbox.hyperrun(["rmi", digit]).fails_with(
        1,
        &format!("error: {digit} is the beginning of more than one image id\nhint: "),
    );
    sandbox.hyperrun(["run", digit]).fails_with(125, "more than one image id");
    assert_eq!(sandbox.stored(), before);
    sandbox.hyperrun(["rmi", &whole[..8]]).code_is(0).stdout_has(&format!("sha256:{whole}"));
    assert_eq!(sandbox.hyperrun(["images", "-q"]).stdout.lines().count(), 16);
}

#[test]
fn unknown_images_are_named_and_the_others_removed() {
    let (sandbox, _root) = empty_store();
    load(&sandbox, &docker_archive("known:1", &[layer("x")])).code_is(0);
    let before = sandbox.stored();
    for name in ["unknown", "known", "known:2", "quay.io/known:1", "0123456789ab"] {
        sandbox
            .hyperrun(["rmi", name])
            .fails_with(1, &format!("error: no such image: {name}\nhint: `hyperrun images`"));
    }
    sandbox.hyperrun(["rmi", "No/Name"]).fails_with(1, "error: invalid image name: ");
    assert_eq!(sandbox.stored(), before);
    let out = sandbox.hyperrun(["rmi", "unknown", "known:1"]);
    out.code_is(1).stdout_has("Untagged: known:1").stderr_has("no such image: unknown");
    sandbox.hyperrun(["images", "-q"]).stdout_is("");
}
