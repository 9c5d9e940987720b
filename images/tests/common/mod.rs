//! What the tests of the store share: layers and archives made in memory, and a mounted disk.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use hyperrun_images::{Digest, Disk, Error, Image, Limits, LoadSource, Loaded, Store};

/// Builds a layer's tar.
pub(crate) struct Layer {
    builder: tar::Builder<Vec<u8>>,
}

/// Owner, mode and time of the entries that a test does not care about.
pub(crate) fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

impl Layer {
    pub(crate) fn new() -> Layer {
        Layer { builder: tar::Builder::new(Vec::new()) }
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Layer {
        self.entry(path, header(tar::EntryType::Regular, data.len() as u64), data)
    }

    pub(crate) fn dir(self, path: &str) -> Layer {
        self.entry(path, header(tar::EntryType::Directory, 0), b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Layer {
        self.link(tar::EntryType::Symlink, path, target)
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Layer {
        self.link(tar::EntryType::Link, path, target)
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Layer {
        self.builder.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    /// An entry with a name of at most 100 bytes, written as it is, even if it is hostile.
    pub(crate) fn entry(mut self, path: &str, mut header: tar::Header, data: &[u8]) -> Layer {
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        self.builder.append(&header, data).unwrap();
        self
    }

    fn link(self, kind: tar::EntryType, path: &str, target: &str) -> Layer {
        let mut header = header(kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.entry(path, header, b"")
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }
}

/// A tar of files.
pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let layer = members.iter().fold(Layer::new(), |layer, (path, data)| layer.file(path, data));
    layer.finish()
}

/// An image configuration for layers with these uncompressed bytes.
pub(crate) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-05-14T01:28:06Z",
            "config":{{"Cmd":["sh"],"Env":["A=b"]}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    )
    .into_bytes()
}

/// A Docker archive whose layers are stored as `stored`.
pub(crate) fn docker_archive_of(name: &str, config: &[u8], stored: &[Vec<u8>]) -> Vec<u8> {
    let config_name = format!("{}.json", Digest::of(config).hex());
    let names: Vec<String> = (0..stored.len()).map(|at| format!("{at}/layer.tar")).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let manifest = format!(
        r#"[{{"Config":"{config_name}","RepoTags":["{name}"],"Layers":[{}]}}]"#,
        quoted.join(",")
    );
    let mut members: Vec<(&str, &[u8])> = Vec::new();
    for (name, layer) in names.iter().zip(stored) {
        members.push((name, layer));
    }
    members.push((&config_name, config));
    members.push(("manifest.json", manifest.as_bytes()));
    tar(&members)
}

/// A Docker archive of plain layers.
pub(crate) fn docker_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    docker_archive_of(name, &config(layers), layers)
}

/// The files of an OCI image layout.
pub(crate) fn oci_layout(
    name: &str,
    layers: &[Vec<u8>],
    stored: &[Vec<u8>],
) -> Vec<(String, Vec<u8>)> {
    let config = config(layers);
    let descriptor = |bytes: &[u8], media_type: &str| {
        let (digest, size) = (Digest::of(bytes), bytes.len());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
    };
    let layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    let list: Vec<String> = stored.iter().map(|layer| descriptor(layer, layer_type)).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor(&config, "application/vnd.oci.image.config.v1+json"),
        list.join(",")
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}]}}"#,
        Digest::of(manifest.as_bytes()),
        manifest.len()
    );
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.into_bytes()),
    ];
    for blob in stored.iter().chain([&config, &manifest.into_bytes()]) {
        files.push((format!("blobs/sha256/{}", Digest::of(blob).hex()), blob.clone()));
    }
    files
}

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

/// A tar of an OCI layout's files.
pub(crate) fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, &[u8])> =
        files.iter().map(|(name, data)| (&name[..], &data[..])).collect();
    tar(&members)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
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

    /// All paths in it, sorted, separated by blanks.
    pub(crate) fn list(&self) -> String {
        let root = self.path("");
        let mut paths = Vec::new();
        walk(&root, &mut |path| {
            paths.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        });
        paths.sort();
        paths.join(" ")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.path("")).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}

fn run(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}; {hint}");
}
