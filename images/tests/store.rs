//! Loading, finding and removing images.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::{
    Layer, Sandbox, config, docker_archive, docker_archive_of, gzip, layer, oci_layout, pack,
};
use hyperrun_images::{Digest, Error, Limits, LoadSource, Store, no_users};

#[test]
fn every_kind_of_archive_gives_the_same_image() {
    let layers = [layer(), Layer::new().file("b", b"2").finish()];
    let id = Digest::of(&config(&layers));
    let gzipped: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let zstd: Vec<Vec<u8>> =
        layers.iter().map(|layer| zstd::encode_all(&layer[..], 3).unwrap()).collect();
    let plain = docker_archive("debian:bookworm", &layers);
    let archives = [
        plain.clone(),
        gzip(&plain),
        zstd::encode_all(&plain[..], 3).unwrap(),
        docker_archive_of("debian:bookworm", &config(&layers), &gzipped),
        docker_archive_of("debian:bookworm", &config(&layers), &zstd),
        pack(&oci_layout("debian:bookworm", &layers, &gzipped)),
        pack(&oci_layout("debian:bookworm", &layers, &layers)),
    ];
    for archive in archives {
        let sandbox = Sandbox::new();
        let path = sandbox.folder.path().join("archive");
        fs::write(&path, &archive).unwrap();
        for source in
            [LoadSource::Reader(Box::new(std::io::Cursor::new(archive))), LoadSource::Path(path)]
        {
            let loaded = sandbox.store.load(source, &Limits::default()).unwrap();
            assert_eq!((loaded.len(), loaded[0].id), (1, id));
            assert_eq!(loaded[0].references[0].to_string(), "docker.io/library/debian:bookworm");
        }
        let image = sandbox.store.find("debian:bookworm").unwrap();
        assert_eq!(image.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!((image.size, image.layers().len()), (5, 2));
        assert_eq!(image.disk().unwrap().extents.len(), 3);
    }
}

#[test]
fn a_folder_in_oci_layout_is_an_archive_too() {
    let sandbox = Sandbox::new();
    let layers = [layer()];
    let folder = sandbox.folder.path().join("layout");
    for (name, data) in oci_layout("localhost:5000/x:1", &layers, &[gzip(&layers[0])]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
    sandbox.store.load(LoadSource::Path(folder), &Limits::default()).unwrap();
    let image = sandbox.store.find("localhost:5000/x:1").unwrap();
    let manifest = image.manifest.unwrap();
    let by_digest = format!("localhost:5000/x@{manifest}");
    assert_eq!(sandbox.store.find(&by_digest).unwrap().id, image.id);
}

#[test]
fn docker_links_layers_that_an_archive_has_already() {
    let sandbox = Sandbox::new();
    let config = config(&[layer(), layer()]);
    let manifest =
        r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let archive = Layer::new()
        .file("a/layer.tar", &layer())
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", manifest.as_bytes())
        .finish();
    let loaded = sandbox.load(archive).unwrap();
    assert!(loaded[0].references.is_empty());
    assert_eq!(sandbox.store.find(&loaded[0].id.short()).unwrap().layers().len(), 2);
}

#[test]
fn images_are_found_by_name_and_by_the_beginning_of_an_id() {
    let sandbox = Sandbox::new();
    let image = sandbox.image("debian:bookworm", &[layer()]);
    let hex = image.id.hex();
    for name in [
        "debian:bookworm",
        "docker.io/library/debian:bookworm",
        &hex[..12],
        &hex[..2],
        &hex,
        &image.id.to_string(),
    ] {
        assert_eq!(sandbox.store.find(name).unwrap().id, image.id, "{name}");
    }
    for name in ["debian", "debian:sid", "quay.io/library/debian:bookworm", "0000000000000"] {
        let error = sandbox.store.find(name).unwrap_err();
        assert!(matches!(error, Error::UnknownImage { .. }), "{name}: {error}");
        assert!(error.hint().is_some());
    }
    assert!(matches!(sandbox.store.find("Debian"), Err(Error::Reference(_))));
    for at in 0..40 {
        sandbox.image("other", &[Layer::new().file("f", &[at]).finish()]);
    }
    assert!((0..16).any(|digit| {
        matches!(sandbox.store.find(&format!("{digit:x}")), Err(Error::AmbiguousId { .. }))
    }));
}

#[test]
fn a_name_moves_to_the_image_loaded_last() {
    let sandbox = Sandbox::new();
    let first = sandbox.image("x:1", &[layer()]);
    let second = sandbox.image("x:1", &[Layer::new().file("b", b"").finish()]);
    let list = sandbox.store.list().unwrap();
    assert_eq!(list.iter().map(|image| image.id).collect::<Vec<_>>(), [second.id, first.id]);
    assert!(list[1].references.is_empty());
}

#[test]
fn removing_takes_what_no_other_image_has() {
    let sandbox = Sandbox::new();
    let empty = sandbox.files();
    let top = Layer::new().file("top", b"1").finish();
    let base = sandbox.image("base", &[layer()]);
    let derived = sandbox.image("derived", &[layer(), top.clone()]);
    base.disk().unwrap();
    derived.disk().unwrap();
    let removed = sandbox.store.remove("derived", false, &no_users).unwrap();
    assert_eq!(removed.untagged[0].familiar(), "derived:latest");
    assert_eq!(removed.deleted, [derived.id, Digest::of(&top)]);
    assert!(base.disk().is_ok() && sandbox.store.find("base").is_ok());
    assert!(matches!(sandbox.store.find("derived"), Err(Error::UnknownImage { .. })));
    let removed = sandbox.store.remove(&base.id.short(), false, &no_users).unwrap();
    assert_eq!(removed.deleted, [base.id, Digest::of(&layer())]);
    let mut left = sandbox.files();
    left.retain(|path| path != Path::new("names.json"));
    assert_eq!(left, empty);
}

#[test]
fn names_go_one_by_one_and_the_image_with_the_last() {
    let sandbox = Sandbox::new();
    let image = sandbox.image("a", &[layer()]);
    sandbox.image("b", &[layer()]);
    let error = sandbox.store.remove(&image.id.short(), false, &no_users).unwrap_err();
    assert!(matches!(error, Error::StillTagged { count: 2, .. }), "{error}");
    assert!(sandbox.store.remove("a", false, &no_users).unwrap().deleted.is_empty());
    assert_eq!(sandbox.store.remove("b", false, &no_users).unwrap().deleted.len(), 2);
    sandbox.image("a", &[layer()]);
    sandbox.image("b", &[layer()]);
    assert_eq!(sandbox.store.remove(&image.id.short(), true, &no_users).unwrap().untagged.len(), 2);
}

#[test]
fn a_lock_keeps_an_image() {
    let sandbox = Sandbox::new();
    let image = sandbox.image("x", &[layer()]);
    let lock = image.lock().unwrap();
    assert!(matches!(sandbox.store.remove("x", false, &no_users), Err(Error::InUse { .. })));
    assert!(sandbox.store.find("x").is_ok(), "nothing was changed");
    let removed = sandbox.store.remove("x", true, &no_users).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    assert!(image.disk().is_ok());
    assert!(matches!(
        sandbox.store.remove(&image.id.short(), true, &no_users),
        Err(Error::InUse { .. })
    ));
    drop(lock);
    assert_eq!(sandbox.store.remove(&image.id.short(), false, &no_users).unwrap().deleted.len(), 2);
    assert!(matches!(image.lock(), Err(Error::UnknownImage { .. })));
}

#[test]
fn an_image_for_another_machine_is_loaded_and_says_so() {
    let sandbox = Sandbox::new();
    let config = String::from_utf8(config(&[layer()])).unwrap().replace("amd64", "s390x");
    sandbox.load(docker_archive_of("x", config.as_bytes(), &[layer()])).unwrap();
    assert_eq!(sandbox.store.find("x").unwrap().config.platform().to_string(), "linux/s390x");
}

#[test]
fn a_damaged_layer_is_unpacked_again() {
    let sandbox = Sandbox::new();
    let disk = sandbox.image("x", &[layer()]).disk().unwrap();
    let data = &disk.extents[1].path;
    fs::write(data, b"").unwrap();
    fs::write(data.with_file_name("origin.json"), b"{").unwrap();
    assert_eq!(sandbox.image("x", &[layer()]).disk().unwrap(), disk);
}

#[test]
fn a_newer_store_is_left_alone() {
    let sandbox = Sandbox::new();
    let version = sandbox.root().join("version");
    fs::write(&version, "2\n").unwrap();
    let error = Store::open(&sandbox.root()).unwrap_err();
    assert!(error.to_string().contains("has version 2, this program knows 1"), "{error}");
    fs::write(&version, "soon\n").unwrap();
    assert!(Store::open(&sandbox.root()).unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn what_a_killed_process_left_is_swept_when_nobody_is_at_work() {
    let sandbox = Sandbox::new();
    let left = sandbox.root().join("tmp/.tmpabc");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("data"), b"half").unwrap();
    let lock = fs::File::open(sandbox.root().join("lock")).unwrap();
    lock.lock_shared().unwrap();
    drop(Store::open(&sandbox.root()).unwrap());
    assert!(left.exists());
    drop(lock);
    drop(Store::open(&sandbox.root()).unwrap());
    assert!(!left.exists());
}

#[test]
fn two_loads_of_one_image_at_once_do_no_harm() {
    let sandbox = Sandbox::new();
    let layers: Vec<Vec<u8>> =
        (0..8).map(|at| Layer::new().file("f", &vec![at; 300_000]).finish()).collect();
    let archive = docker_archive("x", &layers);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let loaded = sandbox.load(archive.clone()).unwrap();
                let image = sandbox.store.find(&loaded[0].id.short()).unwrap();
                assert_eq!(image.disk().unwrap().extents.len(), 9);
            });
        }
    });
    assert_eq!(sandbox.store.list().unwrap().len(), 1);
    assert!(fs::read_dir(sandbox.root().join("tmp")).unwrap().next().is_none());
}

#[test]
fn a_load_beside_a_removal_of_the_same_image_keeps_what_it_loaded() {
    let sandbox = Sandbox::new();
    let archive = |name: &str| docker_archive(name, &[layer()]);
    for round in 0..50 {
        sandbox.load(archive("goes")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| sandbox.load(archive("stays")).unwrap());
            scope.spawn(|| sandbox.store.remove("goes", false, &no_users).unwrap());
        });
        assert!(sandbox.store.find("goes").is_err(), "round {round}");
        sandbox.store.find("stays").expect("it was loaded").disk().unwrap();
        sandbox.store.remove("stays", false, &no_users).unwrap();
    }
    assert!(sandbox.store.list().unwrap().is_empty());
}

#[test]
fn names_of_an_image_that_is_gone_do_not_come_back_with_it() {
    let sandbox = Sandbox::new();
    let image = sandbox.image("old", &[layer()]);
    // What a removal leaves that is killed after the image and before its names.
    fs::remove_file(sandbox.root().join(format!("records/{}.json", image.id.hex()))).unwrap();
    assert!(matches!(sandbox.store.find("old"), Err(Error::UnknownImage { .. })));
    assert_eq!(sandbox.image("new", &[layer()]).references.len(), 1);
}
