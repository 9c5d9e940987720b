//! What the tests of the image commands share: an empty store, and archives to fill it with.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::archive::{Layer, digest, docker_archive_of, gzip, oci_layout};
use tests::{Output, Sandbox};

/// The binary with a store of its own, empty, that vanishes with the test.
pub(crate) fn empty_store() -> (Sandbox, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    (at(root.path()), root)
}

/// The binary with the store in this folder.
pub(crate) fn at(root: &Path) -> Sandbox {
    Sandbox::at(root).of(env!("CARGO_BIN_EXE_hyperrun"))
}

/// Loads an archive through standard input.
pub(crate) fn load(sandbox: &Sandbox, archive: &[u8]) -> Output {
    let out = sandbox.hyperrun_with_input(["load"], archive);
    out.code_is(0);
    out
}

/// A layer of one file with this content.
pub(crate) fn layer(content: &str) -> Vec<u8> {
    Layer::new().dir("etc").file("etc/motd", content.as_bytes()).finish()
}

/// An OCI layout of these layers, compressed.
pub(crate) fn layout(name: &str, layers: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let stored: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    oci_layout(name, layers, &stored)
}

/// Runs a tool that must be there and go well; gives what it prints.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install it"));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// The files of a tar, by name.
pub(crate) fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    fs::write(&path, archive).unwrap();
    let (path, to) = (path.to_str().unwrap(), folder.path().join("to"));
    fs::create_dir(&to).unwrap();
    tool("tar", &["-xf", path, "-C", to.to_str().unwrap()]);
    let list = tool("tar", &["-tf", path]);
    let content = |name: &str| fs::read(to.join(name)).unwrap_or_default();
    list.lines().map(|name| (name.to_owned(), content(name))).collect()
}

/// A configuration with what filters and history look at.
pub(crate) fn labelled(name: &str, created: &str, label: &str, content: &str) -> Vec<u8> {
    let layers = [layer(content)];
    let digest = digest(&layers[0]);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"{created}",
            "config":{{"Labels":{{"kind":"{label}"}},"Cmd":["sh"]}},
            "history":[{{"created":"{created}","created_by":"ADD a file of a long name to / in it"}},
                {{"created":"{created}","created_by":"CMD [\"sh\"]","empty_layer":true,
                  "comment":"nothing"}}],
            "rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    docker_archive_of(name, config.as_bytes(), &layers)
}

/// Images of three ages, one of which has lost its name to a fourth.
pub(crate) fn three_images() -> (Sandbox, tempfile::TempDir) {
    let (sandbox, root) = empty_store();
    load(&sandbox, &labelled("old:1", "2020-01-01T00:00:00Z", "a", "1"));
    load(&sandbox, &labelled("mid:1", "2021-01-01T00:00:00Z", "a", "2"));
    load(&sandbox, &labelled("gone:1", "2022-01-01T00:00:00Z", "b", "3"));
    load(&sandbox, &labelled("gone:1", "2023-01-01T00:00:00Z", "b", "4"));
    sandbox.hyperrun(["tag", "old:1", "q.io/old:2"]).code_is(0);
    (sandbox, root)
}

/// The blob of a store that is the largest.
pub(crate) fn largest_blob(root: &Path) -> PathBuf {
    let blobs = fs::read_dir(root.join("images/blobs/sha256")).unwrap();
    let paths = blobs.map(|entry| entry.unwrap().path());
    paths.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}
