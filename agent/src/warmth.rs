//! Reads what the programs of an image begin with, so that it is in the page cache of every machine
//! that goes on from this one. Nothing of the image is executed.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::Path,
};

use protocol::Preparation;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use crate::program;

/// What most programs of any image begin with, where the image has it: the loaders and C libraries of
/// the usual systems, a shell, and what the agent itself reads.
const USUAL: [&str; 12] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/x86_64-linux-gnu/libtinfo.so.6",
    "/lib/x86_64-linux-gnu/libm.so.6",
    "/lib/x86_64-linux-gnu/libpthread.so.0",
    "/bin/sh",
];

/// The most that is read of one file, and of all.
const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_BYTES: u64 = 16 << 20;

/// Reads them; what is not there, or cannot be read, is passed over.
pub(crate) fn spread(root: BorrowedFd<'_>, preparation: &Preparation) {
    let mut left = MAX_BYTES;
    let mut read = |path: &Path| {
        let bytes = read(root, path, left.min(MAX_FILE_BYTES));
        left -= bytes.unwrap_or_default();
        bytes
    };
    let own = program::places(&preparation.program, &preparation.path);
    own.iter().find_map(|path| read(Path::new(OsStr::from_bytes(path))));
    for path in USUAL {
        read(Path::new(path));
    }
}

/// Reads a regular file from its beginning on, up to a limit; gives how much it was. Links are followed
/// inside the root only.
fn read(root: BorrowedFd<'_>, path: &Path, limit: u64) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(root, path, flags, Mode::empty(), resolve).ok()?;
    let status = fstat(&file).ok()?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut file = File::from(file).take(limit);
    io::copy(&mut file, &mut io::sink()).ok()
}
