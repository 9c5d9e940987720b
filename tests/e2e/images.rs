//! Images on their way into the store and out of it.

use std::process::Command;

use hyperrun_tests::{Output, Sandbox};

/// The archive with the busybox image, made by `scripts/test`.
fn archive() -> String {
    std::env::var("HYPERRUN_TEST_IMAGES").expect("scripts/test sets it") + "/busybox.tar"
}

#[test]
fn an_archive_is_loaded_listed_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(root.path());
    sandbox
        .hyperrun(["load", "-i", &archive()])
        .code_is(0)
        .stdout_has("Loaded image: busybox:latest");
    sandbox.hyperrun(["images"]).code_is(0).stdout_has("busybox").stdout_has("latest");
    sandbox.hyperrun(["rmi", "busybox"]).code_is(0).stdout_has("Untagged: busybox:latest");
    sandbox.hyperrun(["images", "-q"]).code_is(0).stdout_is("");
}

#[test]
fn an_archive_comes_through_standard_input() {
    let root = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(archive()).unwrap();
    Sandbox::at(root.path())
        .hyperrun_with_input(["load", "-i", "-"], &bytes)
        .code_is(0)
        .stdout_has("busybox:latest");
}

#[test]
fn broken_archives_leave_the_store_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(root.path());
    let whole = std::fs::read(archive()).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let cases = [
        ("empty", Vec::new()),
        ("no archive", b"just a few words".to_vec()),
        ("cut", whole[..middle].to_vec()),
        ("one bit changed", flipped),
    ];
    for (name, bytes) in cases {
        let out: Output = sandbox.hyperrun_with_input(["load", "-i", "-"], &bytes);
        assert_ne!(out.code, 0, "{name}");
        out.stdout_is("").stderr_has("error: ");
        sandbox.hyperrun(["images", "-q"]).stdout_is("");
    }
}

#[test]
fn a_missing_archive_is_named() {
    Sandbox::with_images()
        .hyperrun(["load", "-i", "/no/such/archive.tar"])
        .fails_with(1, "/no/such/archive.tar");
}

#[test]
fn hostile_paths_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    let script = r#"
        set -e
        cd "$0"
        echo evil > file
        tar -cPf layer.tar --transform 's,file,../../escape,' file
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$sum" > config.json
        printf '[{"Config":"config.json","RepoTags":["evil:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar -cf archive.tar config.json manifest.json layer.tar
    "#;
    let made = Command::new("sh").args(["-c", script]).arg(work.path()).status().unwrap();
    assert!(made.success());
    let archive = work.path().join("archive.tar");
    Sandbox::at(root.path())
        .hyperrun(["load", "-i", archive.to_str().unwrap()])
        .fails_with(1, "escape");
}
