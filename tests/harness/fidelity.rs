//! Layers with everything that an entry can be or have, and everything that a layer can do to those
//! below it.

use crate::archive::{Layer, header};

/// A file capability, as setcap(8) writes it: `cap_net_raw=ep`.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// An ACL with a named user.
const ACL: &[u8] =
    b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
      \x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

/// Everything that a single entry can be or have.
pub fn base() -> Vec<u8> {
    let mode = |kind, size, mode| {
        let mut header = header(kind, size);
        header.set_mode(mode);
        header
    };
    let device = |kind, major, minor| {
        let mut header = mode(kind, 0, 0o640);
        header.set_device_major(major).expect("it fits");
        header.set_device_minor(minor).expect("it fits");
        header
    };
    let regular = tar::EntryType::Regular;
    let any_bytes: Vec<u8> = (0..=255).chain(b"\n12 path=evil\n".iter().copied()).collect();
    Layer::new()
        .entry("./", mode(tar::EntryType::Directory, 0, 0o751), b"")
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .symlink("out", "../../usr/lib")
        .entry("setuid", mode(regular, 3, 0o6755), b"su\n")
        .entry("sticky", mode(tar::EntryType::Directory, 0, 0o1777), b"")
        .pax(&[("SCHILY.xattr.security.capability", CAPABILITY)])
        .entry("ping", mode(regular, 4, 0o755), b"ping")
        .pax(&[("SCHILY.xattr.user.any", &any_bytes), ("SCHILY.xattr.trusted.x", b"\0")])
        .file("xattrs", b"x")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", ACL)])
        .entry("acl", mode(regular, 0, 0o664), b"")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", ACL)])
        .dir("acl-default")
        .pax(&[("uid", b"70000"), ("gid", b"4294967294")])
        .file("owned", b"x")
        .pax(&[("mtime", b"1700000000.123456789")])
        .file("nanoseconds", b"x")
        .pax(&[("mtime", b"-1.5")])
        .file("before-1970", b"x")
        .entry("null", device(tar::EntryType::Char, 1, 3), b"")
        .entry("disk", device(tar::EntryType::Block, 259, 70_000), b"")
        .entry("pipe", mode(tar::EntryType::Fifo, 0, 0o600), b"")
        .file("original", b"shared")
        .hard_link("second", "original")
        .file("lower", b"linked from above")
        .pax(&[("path", "n".repeat(255).as_bytes())])
        .file("cut", b"long")
        .pax(&[("path", b"\xff\xfe \x01\t*")])
        .file("cut", b"strange")
        .pax(&[("linkpath", "t/".repeat(2000).as_bytes())])
        .symlink("long-target", "cut")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"8388608"),
        ])
        .file("GNUSparseFile.0/sparse", &sparse_data())
        .dir("gone")
        .file("gone/a", b"x")
        .file("gone-file", b"x")
        .file("back", b"old")
        .dir("opaque")
        .file("opaque/lower", b"x")
        .file("file-to-folder", b"x")
        .dir("folder-to-file")
        .file("folder-to-file/a", b"x")
        .dir("there-and-back")
        .file("there-and-back/a", b"x")
        .dir("kept")
        .file("kept/a", b"x")
        .finish()
}

/// A map of one segment at 4 MiB, and the segment.
fn sparse_data() -> Vec<u8> {
    let mut data = b"2\n4194304\n5\n8388608\n0\n".to_vec();
    data.resize(512, 0);
    data.extend(b"hello");
    data
}

/// What a layer can do to the one below it.
pub fn upper() -> Vec<u8> {
    let mut mode = header(tar::EntryType::Directory, 0);
    mode.set_mode(0o700);
    Layer::new()
        .hard_link("third", "original")
        .hard_link("upper", "lower")
        .file("lib/through-link", b"x")
        .file(".wh.gone", b"")
        .file(".wh.gone-file", b"")
        .file(".wh.back", b"")
        .file("back", b"new")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/upper", b"x")
        .dir("file-to-folder")
        .file("file-to-folder/a", b"x")
        .file("folder-to-file", b"x")
        .file("there-and-back", b"x")
        .entry("kept", mode, b"")
        .finish()
}

/// And a third one on top, so that what was replaced is replaced again.
pub fn top() -> Vec<u8> {
    Layer::new()
        .dir("there-and-back")
        .file("there-and-back/b", b"x")
        .file("third", b"its own again")
        .file(".wh.file-to-folder", b"")
        .dir("gone")
        .finish()
}
