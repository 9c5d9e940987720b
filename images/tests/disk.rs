//! The disk of an image, as `fsck.erofs` and this machine's kernel see it. Needs root.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use common::{Layer, Mounted, Sandbox, header};

#[test]
fn metadata_is_kept() {
    let sandbox = Sandbox::new();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let any_bytes: Vec<u8> = (0..=255).chain(b"\n12 path=evil\n".iter().copied()).collect();
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    let mut setuid = header(tar::EntryType::Regular, 4);
    setuid.set_mode(0o6755);
    let mut device = header(tar::EntryType::Block, 0);
    device.set_device_major(259).unwrap();
    device.set_device_minor(70_000).unwrap();
    let mut null = header(tar::EntryType::Char, 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    let layer = Layer::new()
        .pax(&[
            ("uid", b"70000"),
            ("gid", b"4294967294"),
            ("mtime", b"1700000000.123456789"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.any", &any_bytes),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.com.apple.quarantine", b"y"),
        ])
        .entry("su", setuid, b"root")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", acl)])
        .file("acl", b"")
        .pax(&[("mtime", b"-1.5")])
        .file("old", b"")
        .entry("disk", device, b"")
        .entry("null", null, b"")
        .entry("pipe", header(tar::EntryType::Fifo, 0), b"")
        .symlink("link", "a/target/that/does/not/exist")
        .entry("label", header(tar::EntryType::new(b'V'), 0), b"")
        .finish();
    let mounted = Mounted::new(&sandbox.image("x", &[layer]).disk().unwrap());
    assert_eq!(mounted.list(), "acl disk link null old pipe su");

    let su = fs::metadata(mounted.path("su")).unwrap();
    assert_eq!((su.mode(), su.uid(), su.gid(), su.size()), (0o106_755, 70_000, 4_294_967_294, 4));
    assert_eq!((su.mtime(), su.mtime_nsec()), (1_700_000_000, 123_456_789));
    let old = fs::metadata(mounted.path("old")).unwrap();
    assert_eq!((old.mtime(), old.mtime_nsec()), (-2, 500_000_000));
    let xattr = |path: &str, name: &str| {
        let mut value = vec![0; 70_000];
        let length = rustix::fs::lgetxattr(mounted.path(path), name, &mut value);
        length.map(|length| value[..length].to_vec())
    };
    assert_eq!(xattr("su", "security.capability").unwrap(), capability);
    assert_eq!(xattr("su", "user.any").unwrap(), any_bytes);
    assert!(xattr("su", "trusted.overlay.opaque").is_err());
    assert_eq!(xattr("acl", "system.posix_acl_access").unwrap(), acl);

    let disk = fs::symlink_metadata(mounted.path("disk")).unwrap();
    assert!(disk.file_type().is_block_device());
    assert_eq!(disk.rdev(), rustix::fs::makedev(259, 70_000));
    let null = fs::symlink_metadata(mounted.path("null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
    assert!(fs::symlink_metadata(mounted.path("pipe")).unwrap().file_type().is_fifo());
    let target = fs::read_link(mounted.path("link")).unwrap();
    assert_eq!(target.to_str(), Some("a/target/that/does/not/exist"));
}

#[test]
fn layers_merge_and_share() {
    let sandbox = Sandbox::new();
    let base = Layer::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("usr/lib/a", b"lower a")
        .file("gone", b"x")
        .file("was-file", b"x")
        .file("was-dir/inner", b"x")
        .file("opaque/lower", b"x")
        .file("linked", b"shared")
        .finish();
    let upper = Layer::new()
        .file("lib/b", b"upper b")
        .file(".wh.gone", b"")
        .file("was-file/now", b"dir")
        .file("was-dir", b"file")
        .file("opaque/upper", b"x")
        .file("opaque/.wh..wh..opq", b"")
        .hard_link("second-name", "linked")
        .finish();
    let first = sandbox.image("base", std::slice::from_ref(&base));
    let second = sandbox.image("derived", &[base, upper]);
    let (base_disk, disk) = (first.disk().unwrap(), second.disk().unwrap());
    assert_eq!(base_disk.extents[1], disk.extents[1], "the base layer's data is the same file");
    assert_ne!(base_disk.extents[0], disk.extents[0]);

    let mounted = Mounted::new(&disk);
    assert_eq!(
        mounted.list(),
        "lib linked opaque opaque/upper second-name usr usr/lib usr/lib/a usr/lib/b was-dir \
         was-file was-file/now"
    );
    assert_eq!(mounted.read("lib/a"), b"lower a");
    assert_eq!(mounted.read("usr/lib/b"), b"upper b");
    assert_eq!(mounted.read("was-dir"), b"file");
    let metadata = |path: &str| fs::metadata(mounted.path(path)).unwrap();
    assert_eq!(metadata("linked").ino(), metadata("second-name").ino());
    assert_eq!(metadata("linked").nlink(), 2);
    assert_eq!(metadata("usr").nlink(), 3);
}

#[test]
fn sizes_and_names_at_the_edges() {
    let sandbox = Sandbox::new();
    let long = "n".repeat(255);
    let deep = vec!["d".repeat(255); 16].join("/");
    assert_eq!(deep.len(), 4095);
    let strange = b"\xff\xfe \x01\t\n*".to_vec();
    let target = "t/".repeat(2000);
    let mut layer = Layer::new()
        .pax(&[("path", long.as_bytes())])
        .file("cut", b"long")
        .pax(&[("path", deep.as_bytes())])
        .file("cut", b"deep")
        .pax(&[("path", &strange)])
        .file("cut", b"strange")
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("link", "cut")
        .pax(&[("SCHILY.xattr.user.large", &[7; 60_000])])
        .file("large-attribute", b"x")
        .file("!before-the-dot", b"1")
        .file("-x", b"2")
        .file(".-x", b"3");
    for size in [1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1] {
        layer = layer.file(&format!("size-{size}"), &vec![b'x'; size]);
    }
    for at in 0..5000 {
        layer =
            layer.file(&format!("many/file-with-a-longer-name-{at:05}"), at.to_string().as_bytes());
    }
    let mounted = Mounted::new(&sandbox.image("x", &[layer.finish()]).disk().unwrap());
    assert_eq!(mounted.read(&long), b"long");
    assert_eq!(read_in_two_steps(&mounted, &deep), b"deep");
    assert_eq!(fs::read(mounted.path("").join(OsStr::from_bytes(&strange))).unwrap(), b"strange");
    assert_eq!(fs::read_link(mounted.path("link")).unwrap().to_str(), Some(&target[..]));
    let mut value = vec![0; 65_536];
    let length = rustix::fs::getxattr(mounted.path("large-attribute"), "user.large", &mut value);
    assert_eq!(&value[..length.unwrap()], [7; 60_000]);
    for (name, data) in [("!before-the-dot", "1"), ("-x", "2"), (".-x", "3")] {
        assert_eq!(mounted.read(name), data.as_bytes());
    }
    for size in [1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1] {
        assert_eq!(mounted.read(&format!("size-{size}")), vec![b'x'; size]);
    }
    assert_eq!(fs::read_dir(mounted.path("many")).unwrap().count(), 5000);
    for at in 0..5000 {
        let path = format!("many/file-with-a-longer-name-{at:05}");
        assert_eq!(mounted.read(&path), at.to_string().as_bytes());
    }
    assert!(!mounted.path("many/file-with-a-longer-name-05000").exists());
}

/// No call takes a path of 4,095 bytes and the mount point in front of it.
fn read_in_two_steps(mounted: &Mounted, path: &str) -> Vec<u8> {
    use rustix::fs::{Mode, OFlags, open, openat};
    let (first, rest) = path.split_at(8 * 256);
    let folder = open(mounted.path(first), OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut file = fs::File::from(openat(&folder, rest, OFlags::RDONLY, Mode::empty()).unwrap());
    let mut data = Vec::new();
    file.read_to_end(&mut data).unwrap();
    data
}

#[test]
fn sparse_files_stay_sparse() {
    let sandbox = Sandbox::new();
    let size = (5_u64 << 30) + 10;
    let map = format!("0,3,{},4,{},0", 1_u64 << 30, size);
    let size_text = size.to_string();
    let layer = Layer::new()
        .pax(&[
            ("GNU.sparse.size", size_text.as_bytes()),
            ("GNU.sparse.numblocks", b"3"),
            ("GNU.sparse.map", map.as_bytes()),
            ("GNU.sparse.name", b"big"),
        ])
        .file("GNUSparseFile.1/big", b"abcdefg")
        .file("next", b"next")
        .finish();
    let image = sandbox.image("x", &[layer]);
    let disk = image.disk().unwrap();
    let on_disk = fs::metadata(&disk.extents[1].path).unwrap();
    assert!(on_disk.blocks() * 512 < 1 << 20, "{} bytes are in use", on_disk.blocks() * 512);
    let mounted = Mounted::new(&disk);
    let file = fs::File::open(mounted.path("big")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), size);
    let read = |at: u64| {
        let mut bytes = [9; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, at).unwrap();
        bytes
    };
    assert_eq!(&read(0), b"abc\0\0\0\0\0");
    assert_eq!(&read((1 << 30) - 2), b"\0\0defg\0\0");
    assert_eq!(&read(size - 8), &[0; 8]);
    assert_eq!(mounted.read("next"), b"next");
}

#[test]
fn an_image_without_layers_has_nothing_but_mount_points() {
    let sandbox = Sandbox::new();
    let disk = sandbox.image("scratch", &[]).disk().unwrap();
    assert_eq!(disk.extents.len(), 1);
    let mounted = Mounted::new(&disk);
    assert_eq!(mounted.list(), "");
    let root = fs::metadata(mounted.path("")).unwrap();
    assert_eq!((root.mode(), root.nlink()), (0o040_755, 2 + 4));
}

#[test]
fn the_same_layer_twice_is_stored_and_shown_once() {
    let sandbox = Sandbox::new();
    let layer = Layer::new().file("a", b"x").finish();
    let other = Layer::new().file(".wh.a", b"").finish();
    let image = sandbox.image("x", &[layer.clone(), other, layer]);
    let disk = image.disk().unwrap();
    assert_eq!(disk.extents.len(), 2, "metadata, and the one layer that has data");
    assert_eq!(Mounted::new(&disk).read("a"), b"x");
}

#[test]
fn every_length_around_a_block_is_laid_out_right() {
    let sandbox = Sandbox::new();
    let mut layer = Layer::new();
    // Each step moves the next inode, link target and directory to another place in its block.
    let steps: Vec<usize> = (0..300).collect();
    for at in &steps {
        let target = "t".repeat(1 + (at * 97) % 4095);
        let value = vec![b'v'; (at * 41) % 4200];
        let name = format!("d{at}/{}", "n".repeat(1 + at % 255));
        layer = layer
            .pax(&[("linkpath", target.as_bytes())])
            .symlink(&format!("link{at}"), "cut")
            .pax(&[("SCHILY.xattr.user.v", &value), ("path", name.as_bytes())])
            .file("cut", at.to_string().as_bytes());
        for more in 0..at % 40 {
            let name = format!("d{at}/more-{more}-{}", "m".repeat(80 + at % 30));
            layer = layer.pax(&[("path", name.as_bytes())]).file("cut", b"");
        }
    }
    let mounted = Mounted::new(&sandbox.image("x", &[layer.finish()]).disk().unwrap());
    for at in steps {
        let target = fs::read_link(mounted.path(&format!("link{at}"))).unwrap();
        assert_eq!(target.as_os_str().len(), 1 + (at * 97) % 4095);
        let name = format!("d{at}/{}", "n".repeat(1 + at % 255));
        assert_eq!(mounted.read(&name), at.to_string().as_bytes());
        let mut value = [0; 5000];
        let length = rustix::fs::getxattr(mounted.path(&name), "user.v", &mut value).unwrap();
        assert_eq!(length, (at * 41) % 4200);
        let count = fs::read_dir(mounted.path(&format!("d{at}"))).unwrap().count();
        assert_eq!(count, 1 + at % 40);
        for more in 0..at % 40 {
            let name = format!("d{at}/more-{more}-{}", "m".repeat(80 + at % 30));
            assert!(mounted.path(&name).is_file(), "{name}");
        }
    }
}
