//! Images made in memory, honest or not: layers entry by entry, and the archives around them.

use std::fmt::Write as _;
use std::io::Write as _;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// Builds a layer's tar, or any other.
pub struct Layer {
    builder: tar::Builder<Vec<u8>>,
}

/// Owner, mode and time of the entries that a test does not care about.
pub fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// One without entries.
    pub fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()) }
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(path, header(EntryType::Regular, data.len() as u64), data)
    }

    /// A folder.
    #[must_use]
    pub fn dir(self, path: &str) -> Self {
        self.entry(path, header(EntryType::Directory, 0), b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    /// A further name for what `target` names.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    /// PAX records for the next entry.
    #[must_use]
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.builder.append_pax_extensions(records.iter().copied()).expect("a Vec takes it");
        self
    }

    /// An entry with a name of at most 100 bytes, written as it is, even if it is hostile.
    #[must_use]
    pub fn entry(mut self, path: &str, mut header: Header, data: &[u8]) -> Self {
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        self.builder.append(&header, data).expect("a Vec takes it");
        self
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = header(kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.entry(path, header, b"")
    }

    /// The tar with its end mark.
    pub fn finish(self) -> Vec<u8> {
        self.builder.into_inner().expect("a Vec takes it")
    }
}

/// `sha256:` and 64 digits.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes it");
        text
    })
}

/// A tar of files.
pub fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let layer = members.iter().fold(Layer::new(), |layer, (path, data)| layer.file(path, data));
    layer.finish()
}

/// A tar of an OCI layout's files.
pub fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, &[u8])> =
        files.iter().map(|(name, data)| (&name[..], &data[..])).collect();
    tar(&members)
}

/// An image configuration for layers with these uncompressed bytes.
pub fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| format!("\"{}\"", digest(layer))).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-05-14T01:28:06Z",
            "config":{{"Cmd":["sh"],"Env":["A=b"]}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    )
    .into_bytes()
}

/// A Docker archive with this configuration, whose layers are stored as `stored`.
pub fn docker_archive_of(name: &str, config: &[u8], stored: &[Vec<u8>]) -> Vec<u8> {
    let config_name = format!("{}.json", hex(config));
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
pub fn docker_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    docker_archive_of(name, &config(layers), layers)
}

/// The files of an OCI image layout whose layers are stored as `stored`: `oci-layout`,
/// `index.json`, then the blobs of the layers, the configuration and the manifest.
pub fn oci_layout(name: &str, layers: &[Vec<u8>], stored: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let config = config(layers);
    let descriptor = |bytes: &[u8], media_type: &str| {
        let (digest, size) = (digest(bytes), bytes.len());
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
        digest(manifest.as_bytes()),
        manifest.len()
    );
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.into_bytes()),
    ];
    for blob in stored.iter().chain([&config, &manifest.into_bytes()]) {
        files.push((format!("blobs/sha256/{}", hex(blob)), blob.clone()));
    }
    files
}

/// Compressed by gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("a Vec takes it");
    encoder.finish().expect("a Vec takes it")
}

/// Compressed by zstd.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("a Vec takes it")
}

/// Compressed by zstd with a window of 2 to the power of `log` bytes, as `zstd --long` makes it of a
/// pipe.
pub fn zstd_with_window(bytes: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(log).expect("a window");
    // In two pieces, so that its header is written before the size is known.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    encoder.write_all(first).and_then(|()| encoder.flush()).expect("a Vec takes it");
    encoder.write_all(second).expect("a Vec takes it");
    encoder.finish().expect("a Vec takes it")
}
