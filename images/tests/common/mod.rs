//! What the tests of the store share: archives made in memory, a store, and a mounted disk.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use hyperrun_images::{Disk, Error, Image, Limits, LoadSource, Loaded, Store};
pub(crate) use tests::archive::*;

/// A small layer of one file.
pub(crate) fn layer() -> Vec<u8> {
    Layer::new().dir("etc").file("etc/hostname", b"box\n").finish()
}

/// The error and all its sources in one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// A store of its own that vanishes with the test.
pub(crate) struct Sandbox {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Sandbox {
    pub(crate) fn new() -> Sandbox {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("images")).unwrap();
        Sandbox { folder, store }
    }

    /// The store's folder. Beside it there is room for a test's own files.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    pub(crate) fn load(&self, archive: Vec<u8>) -> Result<Vec<Loaded>, Error> {
        self.load_within(archive, &Limits::default())
    }

    pub(crate) fn load_within(
        &self,
        archive: Vec<u8>,
        limits: &Limits,
    ) -> Result<Vec<Loaded>, Error> {
        self.store.load(LoadSource::Reader(Box::new(io::Cursor::new(archive))), limits)
    }

    /// Loads an image of these layers and gives it.
    pub(crate) fn image(&self, name: &str, layers: &[Vec<u8>]) -> Image {
        self.load(docker_archive(name, layers)).unwrap();
        self.store.find(name).unwrap()
    }

    /// Everything below the store's folder but the locks, relative to it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files(&self.root())
    }
}

/// Everything below a store's folder but the locks, relative to it.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    walk(root, &mut |path| {
        let path = path.strip_prefix(root).unwrap();
        if path.extension().is_none_or(|extension| extension != "lock") && path != Path::new("lock")
        {
            out.push(path.to_owned());
        }
    });
    out.sort();
    out
}

/// Calls `visit` with every path below `folder`, and with no path twice.
pub(crate) fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        visit(&path);
        if path.symlink_metadata().unwrap().is_dir() {
            walk(&path, visit);
        }
    }
}

/// Writes the disk's extents one behind the other, as the guest sees them.
pub(crate) fn export(disk: &Disk, path: &Path) {
    let mut out = File::create(path).unwrap();
    let mut position = 0;
    for extent in &disk.extents {
        assert!(extent.offset % 4096 == 0 && extent.length % 4096 == 0 && extent.length > 0);
        let mut file = File::open(&extent.path).unwrap();
        copy_sparsely(&mut file, extent.offset, extent.length, &mut out, position);
        position += extent.length;
    }
    out.set_len(position).unwrap();
}

fn copy_sparsely(input: &mut File, from: u64, length: u64, out: &mut File, to: u64) {
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < length {
        // Skip holes: a sparse file of many GiB must not be copied byte by byte.
        let data = rustix::fs::seek(&*input, rustix::fs::SeekFrom::Data(from + done));
        match data {
            Ok(next) => done = (next - from).min(length),
            Err(_) => return,
        }
        let wanted = buffer.len().min(usize::try_from(length - done).unwrap());
        input.seek(SeekFrom::Start(from + done)).unwrap();
        let count = input.read(&mut buffer[..wanted]).unwrap();
        out.seek(SeekFrom::Start(to + done)).unwrap();
        out.write_all(&buffer[..count]).unwrap();
        done += count as u64;
    }
}

/// A disk mounted by this machine's kernel, after `fsck.erofs` had nothing to say against it.
pub(crate) struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    pub(crate) fn new(disk: &Disk) -> Mounted {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk.erofs");
        export(disk, &file);
        run(Command::new("fsck.erofs").arg(&file), "install erofs-utils");
        let point = folder.path().join("root");
        fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "erofs", "-o", "loop,ro"]).arg(&file).arg(&point);
        run(&mut mount, "these tests need root, loop devices and erofs in the kernel");
        Mounted { folder }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap()
    }

    /// All paths in it, sorted, separated by blanks, but those that every disk has.
    pub(crate) fn list(&self) -> String {
        let root = self.path("");
        let mut paths = Vec::new();
        walk(&root, &mut |path| {
            paths.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        });
        for place in EVERYWHERE {
            let at = paths.iter().position(|path| path == place);
            paths.remove(at.unwrap_or_else(|| panic!("there is no {place}")));
        }
        paths.sort();
        paths.join(" ")
    }
}

/// The places that every container mounts something over.
const EVERYWHERE: [&str; 7] =
    ["dev", "etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"];

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.path("")).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}

/// Runs a tool that must be there and go well.
pub(crate) fn run(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}; {hint}");
}
