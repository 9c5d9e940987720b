//! Initial file systems made in memory: cpio archives in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst of Linux).

use std::fmt::Write as _;
use std::fs;

use tempfile::NamedTempFile;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// A file with an initial file system whose `/init` is this script, with busybox to run it and
/// `/dev/console` to be heard on.
pub fn initramfs(init: &str) -> NamedTempFile {
    let busybox = fs::read("/bin/busybox").expect("scripts/setup installs busybox-static");
    let init = format!("#!/bin/busybox sh\n{init}\n");
    let mut archive = Vec::new();
    entry(&mut archive, "bin", FOLDER, (0, 0), b"");
    entry(&mut archive, "bin/busybox", PROGRAM, (0, 0), &busybox);
    finish(archive, init.as_bytes())
}

/// A file with an initial file system whose `/init` is this program, with `/dev/console` to be heard on.
pub fn initramfs_of(program: &[u8]) -> NamedTempFile {
    finish(Vec::new(), program)
}

fn finish(mut archive: Vec<u8>, init: &[u8]) -> NamedTempFile {
    entry(&mut archive, "dev", FOLDER, (0, 0), b"");
    entry(&mut archive, "dev/console", CHARACTER_DEVICE, (5, 1), b"");
    entry(&mut archive, "init", PROGRAM, (0, 0), init);
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), b"");
    let file = NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), archive).expect("the host has room");
    file
}

fn entry(archive: &mut Vec<u8>, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
    let inode = u32::try_from(archive.len()).expect("a test's archive is small");
    let size = u32::try_from(content.len()).expect("a test's archive is small");
    let name_size = u32::try_from(path.len()).expect("paths are short") + 1;
    let (major, minor) = device;
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
    let mut header = String::from("070701");
    for field in fields {
        write!(header, "{field:08x}").expect("a string takes everything");
    }
    archive.extend(header.as_bytes());
    archive.extend(path.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend(content);
    pad(archive);
}

/// Names and contents end at multiples of four bytes.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
