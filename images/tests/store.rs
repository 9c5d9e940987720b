//! Loading, finding and removing images, and what is said when that cannot be done.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{
    Layer, Sandbox, config, docker_archive, docker_archive_of, gzip, header, oci_layout, tar,
};
use hyperrun_images::{Digest, Error, Limits, LoadSource, Store};

fn layer() -> Vec<u8> {
    Layer::new().dir("etc").file("etc/hostname", b"box\n").finish()
}

/// The error and all its sources in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, &[u8])> =
        files.iter().map(|(name, data)| (&name[..], &data[..])).collect();
    tar(&members)
}

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
    let removed = sandbox.store.remove("derived", false).unwrap();
    assert_eq!(removed.untagged[0].familiar(), "derived:latest");
    assert_eq!(removed.deleted, [derived.id, Digest::of(&top)]);
    assert!(base.disk().is_ok() && sandbox.store.find("base").is_ok());
    assert!(matches!(sandbox.store.find("derived"), Err(Error::UnknownImage { .. })));
    let removed = sandbox.store.remove(&base.id.short(), false).unwrap();
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
    let error = sandbox.store.remove(&image.id.short(), false).unwrap_err();
    assert!(matches!(error, Error::StillTagged { count: 2, .. }), "{error}");
    assert!(sandbox.store.remove("a", false).unwrap().deleted.is_empty());
    assert_eq!(sandbox.store.remove("b", false).unwrap().deleted.len(), 2);
    sandbox.image("a", &[layer()]);
    sandbox.image("b", &[layer()]);
    assert_eq!(sandbox.store.remove(&image.id.short(), true).unwrap().untagged.len(), 2);
}

#[test]
fn a_lock_keeps_an_image() {
    let sandbox = Sandbox::new();
    let image = sandbox.image("x", &[layer()]);
    let lock = image.lock().unwrap();
    assert!(matches!(sandbox.store.remove("x", false), Err(Error::InUse { .. })));
    assert!(sandbox.store.find("x").is_ok(), "nothing was changed");
    let removed = sandbox.store.remove("x", true).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    assert!(image.disk().is_ok());
    assert!(matches!(sandbox.store.remove(&image.id.short(), true), Err(Error::InUse { .. })));
    drop(lock);
    assert_eq!(sandbox.store.remove(&image.id.short(), false).unwrap().deleted.len(), 2);
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
fn bad_archives_are_named_and_leave_the_store_as_it_was() {
    let good = docker_archive("x", &[layer()]);
    let gzipped = gzip(&good);
    let mut flipped = good.clone();
    let at = flipped.windows(4).position(|window| window == b"box\n").unwrap();
    flipped[at] ^= 1;
    let other = config(&[Layer::new().finish()]);
    let two = config(&[layer(), layer()]);
    let mut wrong_blob = oci_layout("x:1", &[layer()], &[gzip(&layer())]);
    wrong_blob[2].1[20] ^= 1;
    let wrong_config = tar(&[
        (&format!("{}.json", Digest::of(b"").hex()), b"{}"),
        ("manifest.json", format!(r#"[{{"Config":"{}.json"}}]"#, Digest::of(b"").hex()).as_bytes()),
    ]);
    let huge = format!(r#"[{{"Config":"c.json","RepoTags":["{}"]}}]"#, "a".repeat(9 << 20));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "standard input is not an image archive"),
        (b"hello, I am a text file".to_vec(), "is not an image archive"),
        (good[..good.len() / 2].to_vec(), "ends too early"),
        (gzipped[..gzipped.len() - 9].to_vec(), "cannot read the tar stream"),
        (b"\xfd7zXZ\0 and more".to_vec(), "xz compression is not supported"),
        (tar(&[("a", b"b")]), "has no \"manifest.json or index.json\""),
        (tar(&[("manifest.json", b"{")]), "\"manifest.json\" of the image: it is not valid"),
        (tar(&[("manifest.json", huge.as_bytes())]), "more than the 8388608 allowed"),
        (tar(&[("manifest.json", br#"[{"Config":"c.json"}]"#)]), "has no \"c.json\""),
        (
            tar(&[("manifest.json", br#"[{"Config":"../../etc/passwd"}]"#)]),
            "has no \"../../etc/passwd\"",
        ),
        (wrong_config, "has the wrong digest"),
        (flipped, "the image says"),
        (docker_archive_of("x", &other, &[layer()]), "the image says"),
        (docker_archive_of("x", &two, &[layer()]), "the image's configuration lists 2"),
        (docker_archive("X:1", &[layer()]), "must be lower-case"),
        (docker_archive("x", &[b"not a tar".to_vec()]), "this is not a tar archive"),
        (pack(&wrong_blob), "its manifest says"),
        (pack(&oci_layout("x:1", &[layer()], &[gzip(&layer())])[..3]), "has no \"blobs/sha256/"),
    ];
    let sandbox = Sandbox::new();
    let before = sandbox.files();
    for (archive, expected) in cases {
        let error = sandbox.load(archive).unwrap_err();
        assert!(chain(&error).contains(expected), "{expected}\n{}", chain(&error));
        assert_eq!(sandbox.store.list().unwrap().len(), 0, "{expected}");
        assert_eq!(sandbox.files(), before, "{expected}");
    }
}

#[test]
fn hostile_layers_are_refused_by_entry() {
    let plain = || Layer::new().file("ok", b"1");
    let mut device = header(tar::EntryType::Char, 0);
    device.set_device_major(4096).unwrap();
    let many = (0..50).fold(Layer::new(), |layer, at| layer.dir(&format!("d{at}")));
    let mut looping = Layer::new().symlink("a", "b").symlink("b", "a");
    looping = looping.file("a/x", b"");
    let cases: Vec<(Layer, &str)> = vec![
        (plain().file("../escape", b""), "\"../escape\" has `..`"),
        (plain().file("a/../../escape", b""), "\"a/../../escape\" has `..`"),
        (plain().hard_link("h", "../../etc/passwd"), "\"../../etc/passwd\" has `..`"),
        (plain().file("a/.wh...", b""), "\"a/.wh...\" has an invalid name"),
        (plain().file(".wh.", b""), "\".wh.\" has an invalid name"),
        (plain().pax(&[("path", &[b'n'; 256])]).file("x", b""), "has an invalid name"),
        (plain().pax(&[("path", &[b'/'; 5000])]).file("x", b""), "it is too long"),
        (plain().symlink("s", ""), "\"s\" has an invalid link target"),
        (plain().entry("dev", device, b""), "\"dev\" has an invalid device number"),
        (plain().file("./", b"x"), "the root is a directory"),
        (plain().pax(&[("uid", b"4294967295")]).file("u", b""), "\"u\" has an invalid user id"),
        (plain().entry("weird", header(tar::EntryType::new(b'Z'), 0), b""), "unknown kind 'Z'"),
        (many, "more than 20 entries"),
        (plain().file("zeros", &vec![0; 3 << 20]), "more than 2097152 unpacked bytes"),
        (
            plain().pax(&[("SCHILY.xattr.user.a", &[1; 50_000])]).file("a", b""),
            "20000 bytes of metadata",
        ),
        (plain().pax(&[("path", &vec![b'a'; 2 << 20])]).file("a", b""), "more than 1048576"),
    ];
    let limits = Limits {
        max_entries: 20,
        max_unpacked_bytes: 2 << 20,
        max_metadata_bytes: 20_000,
        ..Limits::default()
    };
    let sandbox = Sandbox::new();
    for (layer, expected) in cases {
        let layers = [layer.finish()];
        let archive = docker_archive_of("x", &config(&layers), &[gzip(&layers[0])]);
        let error = sandbox.load_within(archive, &limits).unwrap_err();
        assert!(chain(&error).contains(expected), "{expected}\n{}", chain(&error));
    }
    let image = sandbox.image("x", &[looping.finish()]);
    assert!(chain(&image.disk().unwrap_err()).contains("too many symbolic links"));
}

#[test]
fn names_that_begin_at_the_root_stay_below_it() {
    let sandbox = Sandbox::new();
    let layer = Layer::new()
        .file("/etc/passwd", b"x")
        .symlink("up", "/../../..")
        .file("up/etc/shadow", b"y");
    let disk = sandbox.image("x", &[layer.finish()]).disk().unwrap();
    let mounted = common::Mounted::new(&disk);
    assert_eq!(mounted.read("etc/passwd"), b"x");
    assert_eq!(mounted.read("etc/shadow"), b"y");
}

#[test]
fn too_many_layers_or_members_are_refused() {
    let sandbox = Sandbox::new();
    let layers = vec![layer(); 5];
    let limits = Limits { max_layers: 4, ..Limits::default() };
    let error = sandbox.load_within(docker_archive("x", &layers), &limits).unwrap_err();
    assert!(chain(&error).contains("lists 5 layers, more than the 4"), "{}", chain(&error));
    let limits = Limits { max_archive_members: 4, ..Limits::default() };
    let error = sandbox.load_within(docker_archive("x", &layers), &limits).unwrap_err();
    assert!(chain(&error).contains("more than 4 files"), "{}", chain(&error));
    let limits = Limits { max_unpacked_bytes: 3000, ..Limits::default() };
    let error = sandbox.load_within(docker_archive("x", &layers), &limits).unwrap_err();
    assert!(chain(&error).contains("more than 3000 bytes"), "{}", chain(&error));
}

#[test]
fn layers_that_are_there_already_count_as_well() {
    let sandbox = Sandbox::new();
    sandbox.image("x", &[layer()]);
    let limits = Limits { max_entries: 5, ..Limits::default() };
    let error = sandbox.load_within(docker_archive("y", &[layer(), layer(), layer()]), &limits);
    assert!(chain(&error.unwrap_err()).contains("more than 5 entries"));
    assert!(sandbox.store.find("x").is_ok() && sandbox.store.find("y").is_err());
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
    let version = sandbox.folder.path().join("images/version");
    fs::write(&version, "2\n").unwrap();
    let error = Store::open(sandbox.folder.path()).unwrap_err();
    assert!(error.to_string().contains("has version 2, this program knows 1"), "{error}");
    fs::write(&version, "soon\n").unwrap();
    assert!(Store::open(sandbox.folder.path()).unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn what_a_killed_process_left_is_swept_when_nobody_is_at_work() {
    let sandbox = Sandbox::new();
    let left = sandbox.folder.path().join("images/tmp/.tmpabc");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("data"), b"half").unwrap();
    let lock = fs::File::open(sandbox.folder.path().join("images/lock")).unwrap();
    lock.lock_shared().unwrap();
    drop(Store::open(sandbox.folder.path()).unwrap());
    assert!(left.exists());
    drop(lock);
    drop(Store::open(sandbox.folder.path()).unwrap());
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
    assert!(fs::read_dir(sandbox.folder.path().join("images/tmp")).unwrap().next().is_none());
}

/// A file system of 3 MiB, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "small"]).arg(folder.path());
        assert!(mount.status().unwrap().success(), "this test needs root");
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let small = SmallDisk::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let store = Store::open(small.0.path()).unwrap();
    let good = elsewhere.path().join("good.tar");
    fs::write(&good, docker_archive("good", &[layer()])).unwrap();
    store.load(LoadSource::Path(good), &Limits::default()).unwrap();

    let large = docker_archive("large", &[Layer::new().file("f", &vec![7; 4 << 20]).finish()]);
    let path = elsewhere.path().join("large.tar");
    fs::write(&path, &large).unwrap();
    let sources =
        [LoadSource::Path(path), LoadSource::Reader(Box::new(std::io::Cursor::new(large)))];
    for source in sources {
        let error = store.load(source, &Limits::default()).unwrap_err();
        assert!(chain(&error).contains("No space left on device"), "{}", chain(&error));
        assert!(error.hint().unwrap().contains("free some space"));
        assert_eq!(store.list().unwrap().len(), 1);
        store.find("good").unwrap().disk().unwrap();
    }
}
