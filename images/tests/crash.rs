//! A process that is killed while it loads an image leaves a store that works.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Layer, docker_archive};
use hyperrun_images::{Limits, LoadSource, Store};

const STORE: &str = "HYPERRUN_TEST_STORE";

/// Three layers, each of enough files that a kill can hit the middle of it.
fn archive() -> Vec<u8> {
    let mut noise = 1_u32;
    let mut layer = |at: usize| {
        let mut layer = Layer::new();
        for file in 0..40 {
            let data: Vec<u8> = (0..8_000)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    noise.to_be_bytes()[0]
                })
                .collect();
            layer = layer.file(&format!("layer-{at}/file-{file}"), &data);
        }
        layer.finish()
    };
    let layers: Vec<Vec<u8>> = (0..3).map(&mut layer).collect();
    docker_archive("crash:1", &layers)
}

/// Loads and removes in a store of its own, or in the one that the sweep below gives it.
#[test]
fn one_life_of_an_image() {
    let own = tempfile::tempdir().unwrap();
    let root = std::env::var_os(STORE).map_or_else(|| own.path().to_owned(), PathBuf::from);
    let store = Store::open(&root).unwrap();
    let source = LoadSource::Reader(Box::new(std::io::Cursor::new(archive())));
    store.load(source, &Limits::default()).unwrap();
    store.find("crash:1").unwrap().disk().unwrap();
    store.remove("crash:1", false).unwrap();
}

fn spawn(root: &std::path::Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_life_of_an_image"])
        .env(STORE, root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn kills_at_any_moment_leave_a_whole_store() {
    let root = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert!(spawn(root.path()).wait().unwrap().success());
    let whole_life = started.elapsed();
    let kills = 15;
    for kill in 1..kills {
        let mut child = spawn(root.path());
        std::thread::sleep(whole_life * kill / kills);
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(root.path()).unwrap();
        for image in store.list().unwrap() {
            let disk = image.disk().unwrap();
            assert_eq!(disk.extents.len(), 4, "after {:?}", whole_life * kill / kills);
        }
    }
    let source = LoadSource::Reader(Box::new(std::io::Cursor::new(archive())));
    let store = Store::open(root.path()).unwrap();
    store.load(source, &Limits::default()).unwrap();
    let removed = store.remove("crash:1", false).unwrap();
    assert_eq!(removed.deleted.len(), 4, "the image and its three layers: {removed:?}");
    for folder in ["records", "layers", "disks", "blobs/sha256", "tmp"] {
        let left = std::fs::read_dir(root.path().join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder} after {:?}", started.elapsed().max(Duration::ZERO));
    }
}
