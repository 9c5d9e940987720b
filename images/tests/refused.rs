//! What is refused: broken archives, hostile layers, too much of anything. Needs root.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::process::Command;

use common::{
    Layer, Sandbox, chain, config, docker_archive, docker_archive_of, gzip, header, layer,
    oci_layout, pack, tar, zstd, zstd_with_window,
};
use hyperrun_images::{Depth, Digest, Error, ImportOptions, Limits, LoadSource, Store, no_users};

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
    let elsewhere = tempfile::tempdir().unwrap();
    for (archive, expected) in cases {
        let path = elsewhere.path().join("archive");
        fs::write(&path, &archive).unwrap();
        let stream = sandbox.load(archive).unwrap_err();
        let file = sandbox.store.load(LoadSource::Path(path), &Limits::default()).unwrap_err();
        for error in [stream, file] {
            let text = chain(&error).replace(elsewhere.path().to_str().unwrap(), "");
            let text = text.replace("/archive", "standard input");
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert_eq!(sandbox.store.list().unwrap().len(), 0, "{expected}");
        assert_eq!(sandbox.files(), before, "{expected}");
    }
}

#[test]
fn no_cut_leaves_anything() {
    let sandbox = Sandbox::new();
    let before = sandbox.files();
    let layers = [layer(), Layer::new().file("b", b"2").finish()];
    let plain = docker_archive("x", &layers);
    let oci = pack(&oci_layout("x:1", &layers, &[gzip(&layers[0]), gzip(&layers[1])]));
    let path = sandbox.folder.path().join("archive");
    for (whole, step) in [(gzip(&plain), 1), (zstd(&plain), 1), (plain, 128), (oci, 128)] {
        for end in (0..whole.len()).step_by(step).flat_map(|end| [end, end + 1]) {
            fs::write(&path, &whole[..end]).unwrap();
            let cursor = std::io::Cursor::new(whole[..end].to_vec());
            for source in [LoadSource::Path(path.clone()), LoadSource::Reader(Box::new(cursor))] {
                let result = sandbox.store.load(source, &Limits::default());
                if let Ok(loaded) = result {
                    // Only the end mark, or padding in front of it, was cut off.
                    assert!(whole[end..].iter().all(|byte| *byte == 0), "cut at {end}");
                    sandbox.store.remove(&loaded[0].id.short(), true, &no_users).unwrap();
                }
                let mut left = sandbox.files();
                left.retain(|path| path.as_os_str() != "names.json");
                assert_eq!(left, before, "cut at {end} of {}", whole.len());
            }
        }
    }
}

#[test]
fn hostile_layers_are_refused_by_entry() {
    let plain = || Layer::new().file("ok", b"1");
    let mut device = header(tar::EntryType::Char, 0);
    device.set_device_major(4096).unwrap();
    let many = (0..50).fold(Layer::new(), |layer, at| layer.dir(&format!("d{at}")));
    let cases: Vec<(Layer, &str)> = vec![
        (plain().file("../escape", b""), "\"../escape\" has `..`"),
        (plain().file("a/../../escape", b""), "\"a/../../escape\" has `..`"),
        (plain().hard_link("h", "../../etc/passwd"), "\"../../etc/passwd\" has `..`"),
        (
            plain().hard_link("h", "/etc/passwd"),
            "hard link to \"etc/passwd\", which does not exist",
        ),
        (plain().symlink("up", "../..").hard_link("h", "up/etc/passwd"), "which does not exist"),
        (plain().dir("d").hard_link("h", "d"), "\"h\" is a hard link to the directory \"d\""),
        (plain().symlink("a", "b").symlink("b", "a").file("a/x", b""), "too many symbolic links"),
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
    let before = sandbox.files();
    for (layer, expected) in cases {
        let layers = [layer.finish()];
        let archive = docker_archive_of("x", &config(&layers), &[gzip(&layers[0])]);
        let error = sandbox.load_within(archive, &limits).unwrap_err();
        assert!(chain(&error).contains(expected), "{expected}\n{}", chain(&error));
        assert_eq!(sandbox.files(), before, "{expected}");
    }
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
    assert!(chain(&error).contains("more than 3000 unpacked bytes"), "{}", chain(&error));
    assert!(error.hint().unwrap().contains("--max-size"));
    let archive = docker_archive("x", &layers);
    let limits = Limits { max_unpacked_bytes: archive.len() as u64, ..Limits::default() };
    sandbox.load_within(archive, &limits).unwrap();
}

#[test]
fn a_window_larger_than_zstds_own_limit_is_refused() {
    let sandbox = Sandbox::new();
    let before = sandbox.files();
    let layers = [layer()];
    let wanted = "more than 134217728 bytes in a zstd window";
    let of = |log| docker_archive_of("x", &config(&layers), &[zstd_with_window(&layers[0], log)]);
    let whole = |log| zstd_with_window(&docker_archive("x", &layers), log);
    for archive in [of(28), whole(28), of(31)] {
        let error = sandbox.load(archive).unwrap_err();
        assert!(chain(&error).contains(wanted), "{}", chain(&error));
        assert!(error.hint().unwrap().contains("a smaller window"));
        assert_eq!(sandbox.files(), before);
    }
    sandbox.load(of(27)).unwrap();
    sandbox.load(whole(27)).unwrap();
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

/// A file system of 3 MiB, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

/// Takes up room on a small disk until it is dropped.
struct Filler {
    _file: tempfile::NamedTempFile,
}

impl SmallDisk {
    fn new() -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "small"]).arg(folder.path());
        assert!(mount.status().unwrap().success(), "this test needs root");
        SmallDisk(folder)
    }
}

impl SmallDisk {
    /// Leaves `free` bytes, a multiple of 4 KiB.
    fn fill(&self, free: u64) -> Filler {
        let there = rustix::fs::statvfs(self.0.path()).unwrap();
        let filler = tempfile::NamedTempFile::new_in(self.0.path()).unwrap();
        let length = there.f_bavail * there.f_frsize - free;
        if length > 0 {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(filler.as_file(), flags, 0, length).unwrap();
        }
        Filler { _file: filler }
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

/// Tries to add an image `next` with ever more room, until there is enough. Whatever happens before
/// leaves the store as it was.
fn fill_at_any_step(add: impl Fn(&Store, &str, Layer) -> Result<(), Error>) {
    let small = SmallDisk::new();
    let store = Store::open(&small.0.path().join("images")).unwrap();
    add(&store, "good", Layer::new().file("f", b"good")).unwrap();
    let before = common::files(&small.0.path().join("images"));
    let mut failures = 0;
    for free in (0..).map(|pages| pages * 4096) {
        let filler = small.fill(free);
        let added = add(&store, "next", Layer::new().file("f", &[1; 9000]));
        drop(filler);
        let Err(error) = added else { break };
        assert!(chain(&error).contains("No space left on device"), "{free}: {}", chain(&error));
        assert!(error.hint().unwrap().contains("free some space"));
        assert_eq!(common::files(&small.0.path().join("images")), before, "{free} bytes free");
        failures += 1;
    }
    assert!(failures > 5, "only {failures} steps");
    let _filler = small.fill(0);
    assert_eq!(store.remove("next", false, &no_users).unwrap().deleted.len(), 2);
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.check(Depth::Files).unwrap().damaged, []);
}

#[test]
fn the_disk_may_be_full_at_any_step() {
    fill_at_any_step(|store, name, layer| {
        let archive = docker_archive(name, &[layer.finish()]);
        let source = LoadSource::Reader(Box::new(std::io::Cursor::new(archive)));
        store.load(source, &Limits::default()).map(drop)
    });
}

#[test]
fn the_disk_may_be_full_at_any_step_of_an_import() {
    fill_at_any_step(|store, name, layer| {
        let options = ImportOptions {
            reference: Some(name.parse().unwrap()),
            message: String::new(),
            changes: Vec::new(),
            created: std::time::SystemTime::now(),
        };
        store.import(&layer.finish()[..], &options, &Limits::default()).map(drop)
    });
}
