//! A store of its own in a folder of its own, and what must be true of both after a load.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fuzz::disk;
use crate::{Digest, Error, Limits, LoadSource, Loaded, Store};

/// Small enough that no input takes long.
const LIMITS: Limits = Limits {
    max_entries: 1000,
    max_unpacked_bytes: 4 << 20,
    max_metadata_bytes: 4 << 20,
    max_layers: 16,
    max_document_bytes: 1 << 20,
    max_archive_members: 1000,
};

/// What the store calls its files and folders.
const WORDS: &[&str] = &[
    "version",
    "names.json",
    "records",
    "blobs",
    "sha256",
    "layers",
    "data",
    "tree",
    "origin.json",
    "disks",
    "meta.erofs",
    "tmp",
];

/// Everything vanishes with it.
pub(super) struct Sandbox {
    folder: tempfile::TempDir,
    store: Store,
}

impl Sandbox {
    pub(super) fn new() -> Sandbox {
        let folder = tempfile::tempdir().expect("the host has room");
        let store = Store::open(&folder.path().join("store")).expect("an empty store can be made");
        Sandbox { folder, store }
    }

    /// A folder beside the store, for archives.
    pub(super) fn beside(&self) -> PathBuf {
        let path = self.folder.path().join("beside");
        fs::create_dir_all(&path).expect("the host has room");
        path
    }

    /// Loads an archive. Checks that a failed load leaves nothing, that a loaded image has a
    /// sound disk, and that nothing was written but into the store.
    pub(super) fn load(&self, source: LoadSource) -> Result<Vec<Loaded>, Error> {
        let before = self.files();
        let loaded = self.store.load(source, &LIMITS);
        match &loaded {
            Ok(images) => images.iter().for_each(|image| self.check_image(image)),
            Err(error) => assert_eq!(self.files(), before, "left by a failed load: {error:?}"),
        }
        self.check_places();
        loaded
    }

    fn check_image(&self, loaded: &Loaded) {
        let image = self.store.find(&loaded.id.to_string()).expect("it was loaded");
        for reference in &loaded.references {
            self.store.find(&reference.to_string()).expect("its name was loaded");
        }
        let disk = image.disk().expect("it was made when the image was loaded");
        for extent in &disk.extents {
            assert!(extent.offset % 4096 == 0 && extent.length % 4096 == 0);
            let file = fs::metadata(&extent.path).expect("its file is in the store");
            assert!(extent.offset + extent.length <= file.len());
        }
        let metadata = fs::read(&disk.extents[0].path).expect("the first extent is the metadata");
        let data = |at: u64, length: usize| {
            let (mut at, mut bytes) = (at, vec![0; length]);
            let extent = disk.extents.iter().find(|extent| {
                let is_in_it = at < extent.length;
                at -= if is_in_it { 0 } else { extent.length };
                is_in_it
            });
            let file = File::open(&extent.expect("it lies on the disk").path);
            let read = file.and_then(|file| file.read_exact_at(&mut bytes, at));
            read.expect("its file is in the store");
            bytes
        };
        disk::check(&metadata, &data, disk.length());
    }

    /// Nothing has a name but the store's own words and digests, and nothing is left in `tmp`.
    fn check_places(&self) {
        for path in self.files() {
            let is_ours = path.iter().all(|part| {
                let part = part.to_str().expect("the store writes text");
                WORDS.contains(&part)
                    || Digest::from_hex(part.strip_suffix(".json").unwrap_or(part)).is_ok()
            });
            assert!(is_ours, "{} is none of the store's", path.display());
        }
        for entry in fs::read_dir(self.folder.path()).expect("it is there") {
            let name = entry.expect("readable").file_name();
            assert!(name == "store" || name == "beside", "{name:?} is outside of the store");
        }
    }

    /// Everything in the store but its locks.
    fn files(&self) -> Vec<PathBuf> {
        let root = self.folder.path().join("store");
        let mut files = Vec::new();
        collect(&root, &root, &mut files);
        files.retain(|file| !file.ends_with("lock") && !file.ends_with("names.lock"));
        files.sort();
        files
    }
}

fn collect(folder: &Path, root: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the store") {
        let path = entry.expect("readable").path();
        files.push(path.strip_prefix(root).expect("it lies below").to_owned());
        if path.is_dir() {
            collect(&path, root, files);
        }
    }
}
