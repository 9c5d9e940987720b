//! Snapshots without machines: made, found, removed, exported, and hostile ones taken in.

mod lineage;

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use ::tests::archive::{Layer, docker_archive};
use images::tar::{Entry, Kind, Writer};
use images::{Compressor, Limits, LoadSource, Store};

use super::description::{Needs, VERSION, pieces};
use super::*;
use crate::containers::{Containers, Record, sample};
use crate::limits::ScratchSize;
use crate::moment::Moment;
use crate::plan::VmConfig;

/// A saved machine of 64 MiB that the fuzzer of the format begins with.
const SAVED: &[u8] = include_bytes!("../../../fuzz/corpus/snapshot/with-header");
const MEMORY_MIB: u32 = 64;

struct Here {
    places: Places,
    _folder: tempfile::TempDir,
}

impl Here {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { places: Places { data: folder.path().to_owned() }, _folder: folder }
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::of(&self.places)
    }

    fn store(&self) -> Store {
        Store::open(&self.places.images()).unwrap()
    }

    /// With an image in its store.
    fn with_image() -> (Self, Digest) {
        let here = Self::new();
        let layer = Layer::new().dir("etc").file("etc/motd", &[7; 10_000]).finish();
        let archive = docker_archive("motd:1", &[layer]);
        let source = LoadSource::Reader(Box::new(std::io::Cursor::new(archive)));
        let id = here.store().load(source, &Limits::DEFAULT).unwrap()[0].id;
        (here, id)
    }

    /// Makes a snapshot of no container.
    fn make(&self, name: &str, image: Digest) -> Snapshot {
        let unfinished = self.snapshots().begin(&name.parse().unwrap()).unwrap();
        unfinished.create_own().unwrap();
        let (record, size) = (self.record(image), ScratchSize::DEFAULT.bytes());
        let folder = unfinished.folder();
        fs::write(folder.join(STATE), SAVED).unwrap();
        let fill = |file: &str, size: u64| {
            let file =
                File::options().create(true).truncate(false).write(true).open(folder.join(file));
            let file = file.unwrap();
            file.set_len(size).unwrap();
            for at in [0, 40 << 20, size - 5000] {
                file.write_all_at(&name.repeat(1000).as_bytes()[..4000], at.min(size - 5000))
                    .unwrap();
            }
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        fill(MEMORY, u64::from(MEMORY_MIB) << 20);
        fill(SCRATCH, size + 8192);
        if let Ground::Named(name) = &record.ground {
            fs::create_dir_all(self.places.scratch()).unwrap();
            let blank = File::create(self.places.scratch().join(name)).unwrap();
            blank.set_len(size).unwrap();
            blank.write_all_at(b"blank", 3 << 20).unwrap();
        }
        let image = self.store().find(&image.hex()).unwrap();
        let description = Description {
            version: VERSION,
            id: "5".repeat(64),
            name: name.to_owned(),
            created: Moment::now(),
            container: record,
            hyperrun: "0".to_owned(),
            needs: Needs::here(),
            disk: pieces(&image, &self.places).unwrap(),
            pause_us: 1,
            written: 2,
            parent: None,
            beneath: 0,
        };
        unfinished.publish(description).unwrap()
    }

    fn record(&self, image: Digest) -> Record {
        let record = sample(&"a".repeat(64), "web");
        let vm = VmConfig { memory_mib: MEMORY_MIB, vcpus: 1 };
        let ground = Ground::Named("blank-2-journal.img".to_owned());
        Record { image_id: image.to_string(), vm, ground, ..record }
    }

    fn export(&self, name: &str) -> Vec<u8> {
        let mut archive = Vec::new();
        export(name, &self.places, &mut archive).unwrap();
        archive
    }

    /// Whether an archive is taken in; then it is removed again.
    fn takes(&self, archive: &[u8]) -> bool {
        if import(archive, None, &self.places).is_err() {
            self.refuses(archive);
            return false;
        }
        self.snapshots().remove("warm", &self.places).unwrap();
        self.store().prune(|_| false, &images::no_users).unwrap();
        true
    }

    /// Takes an archive in that is refused; why, and nothing is left of it.
    fn refuses(&self, archive: &[u8]) -> String {
        let error = import(archive, None, &self.places).expect_err("it is refused");
        let left = fs::read_dir(self.places.snapshots()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{error}");
        assert!(self.store().list().unwrap().is_empty(), "{error}");
        chain(&error)
    }
}

fn names(snapshots: &Snapshots) -> Vec<String> {
    snapshots.list().unwrap().into_iter().map(|snapshot| snapshot.name).collect()
}

#[test]
fn a_snapshot_is_found_once_it_is_published_and_until_it_is_removed() {
    let (here, image) = Here::with_image();
    let snapshots = here.snapshots();
    assert!(names(&snapshots).is_empty());
    for name in ["warm", "..", "", "a/b", ".new-x"] {
        let told = snapshots.find(name).unwrap_err().to_string();
        assert_eq!(told, format!("no such snapshot: {name}"));
        assert!(snapshots.remove(name, &here.places).is_err());
    }
    let first = here.make("warm", image);
    here.make("later", image);
    assert_eq!(names(&snapshots), ["later", "warm"]);
    let found = snapshots.find("warm").unwrap();
    assert_eq!(found.description, first.description);
    assert!(found.open().is_ok() && found.bytes() > 10_000 && found.bytes() < 4 << 20);
    let mode = fs::metadata(&found.folder).unwrap().mode();
    assert_eq!(mode & 0o077, 0, "nobody else looks into it");
    let again = snapshots.begin(&"warm".parse().unwrap()).unwrap_err();
    assert!(again.to_string().contains("already in use"), "{again}");
    snapshots.remove("warm", &here.places).unwrap();
    assert_eq!(names(&snapshots), ["later"]);
    assert!(found.open().is_err_and(|error| error.to_string() == "no such snapshot: warm"));
}

#[test]
fn what_is_not_published_is_gone_and_so_is_what_the_killed_have_left() {
    let here = Here::new();
    let (snapshots, name) = (here.snapshots(), "warm".parse().unwrap());
    let unfinished = snapshots.begin(&name).unwrap();
    let busy = snapshots.begin(&name).unwrap_err().to_string();
    assert_eq!(busy, "the snapshot \"warm\" is just being made");
    assert!(names(&snapshots).is_empty() && unfinished.folder().exists());
    drop(unfinished);
    let left = || fs::read_dir(here.places.snapshots()).unwrap().count();
    assert_eq!(left(), 0);
    // A killed process drops nothing but its locks.
    for name in [".new-killed", ".gone-killed", ".new-other"] {
        fs::create_dir(here.places.snapshots().join(name)).unwrap();
        fs::write(here.places.snapshots().join(name).join(MEMORY), "x").unwrap();
    }
    File::create(here.places.snapshots().join(".lock-killed")).unwrap();
    assert!(names(&snapshots).is_empty());
    assert_eq!(left(), 0);
}

#[test]
fn what_cannot_be_read_is_told_and_can_be_removed() {
    let (here, image) = Here::with_image();
    let (snapshots, whole) = (here.snapshots(), here.make("warm", image));
    let path = whole.folder.join(DESCRIPTION);
    let text = fs::read_to_string(&path).unwrap();
    let newer = text.replacen("\"version\":1", "\"version\":9", 1);
    for (text, wanted) in [("{", "is damaged"), (newer.as_str(), "a newer hyperrun (version 9)")] {
        fs::write(&path, text).unwrap();
        let told = snapshots.find("warm").unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
        assert!(names(&snapshots).is_empty());
    }
    snapshots.remove("warm", &here.places).unwrap();
    assert!(!whole.folder.exists());
}

#[test]
fn files_that_were_changed_are_found_out() {
    let (here, image) = Here::with_image();
    for (name, wanted) in [
        (STATE, "is damaged: the saved machine is damaged"),
        (MEMORY, "it was changed after it was saved"),
        (SCRATCH, "its writable disk was changed after it was saved"),
    ] {
        let snapshot = here.make(name, image);
        let file = File::options().write(true).open(snapshot.folder.join(name)).unwrap();
        file.write_all_at(b"xx", 30).unwrap();
        let told = snapshot.open().unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn an_image_that_a_snapshot_needs_is_in_use() {
    let (here, image) = Here::with_image();
    here.make("warm", image);
    let containers = Containers::of(&here.places);
    assert_eq!(containers.image_user(image).as_deref(), Some("snapshot warm"));
    here.snapshots().remove("warm", &here.places).unwrap();
    assert_eq!(containers.image_user(image), None);
}

#[test]
fn a_snapshot_of_elsewhere_is_of_no_use() {
    let (here, image) = Here::with_image();
    let snapshot = here.make("warm", image);
    let image = here.store().find(&image.hex()).unwrap();
    snapshot.check(&image, &here.places).unwrap();
    let change = |change: &dyn Fn(&mut Description)| {
        let mut other = snapshot.clone();
        change(&mut other.description);
        other.check(&image, &here.places).unwrap_err().to_string()
    };
    for (told, wanted) in [
        (change(&|other| other.needs.protocol = 1), "its agent speaks version 1"),
        (change(&|other| other.needs.processor.clear()), "another kind of processor"),
        (change(&|other| other.needs.kernel = "1.2.3".to_owned()), "under Linux 1.2.3, and this"),
        (change(&|other| drop(other.disk.pop())), "its image lies on another kind of disk here"),
    ] {
        assert!(told.starts_with("snapshot warm does not fit this host: "), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn what_is_exported_is_imported_elsewhere() {
    let (here, image) = Here::with_image();
    let made = here.make("warm", image);
    let archive = here.export("warm");
    assert!(archive.len() < 1 << 20, "holes and zeros take no room");
    let there = Here::new();
    let taken = import(&archive[..], None, &there.places).unwrap();
    let mut wanted = made.description.clone();
    wanted.container.ground = Ground::Own;
    assert_eq!(taken.description, wanted);
    taken.open().unwrap();
    for name in export::FILES {
        let path = |snapshot: &Snapshot, places: &Places| match name {
            BLANK => snapshot.blank_path(places),
            name => snapshot.folder.join(name),
        };
        let paths = [path(&made, &here.places), path(&taken, &there.places)];
        let files = paths.map(|path| File::open(path).unwrap());
        let [ours, theirs] = files.each_ref().map(|file| file.metadata().unwrap());
        assert_eq!(ours.len(), theirs.len(), "{name}");
        assert!(theirs.blocks() <= ours.blocks() + 64, "{name} has no holes");
        let [ours, theirs] = files.map(|file| vmm::memory_sum(&file).unwrap());
        assert_eq!(ours, theirs, "{name}");
    }
    assert!(there.export("warm") == archive, "what was imported is exported as it came");
    // The image has come along, without a name, and is needed.
    let found = there.store().find(&image.hex()).unwrap();
    assert!(found.references.is_empty());
    assert!(Containers::of(&there.places).image_user(image).is_some());
    // Once more, beside itself, and under the same name.
    let other = import(&archive[..], Some(&"other".parse().unwrap()), &there.places).unwrap();
    assert_eq!((other.name.as_str(), names(&there.snapshots()).len()), ("other", 2));
    let again = import(&archive[..], None, &there.places).unwrap_err();
    assert!(again.to_string().contains("already in use"), "{again}");
}

#[test]
fn what_was_cut_off_or_changed_on_its_way_leaves_nothing() {
    let (here, image) = Here::with_image();
    here.make("warm", image);
    let archive = here.export("warm");
    let there = Here::new();
    for cut in [0, 1, 10, archive.len() / 4, archive.len() / 2, archive.len() - 1] {
        there.refuses(&archive[..cut]);
    }
    let plain = repacked(&archive, Vec::new(), |_, _| {});
    for at in (5..archive.len()).step_by(archive.len() / 23) {
        let mut changed = archive.clone();
        changed[at] ^= 0x10;
        if there.takes(&changed) {
            // Some bits of a compressed stream mean nothing.
            let same = repacked(&changed, Vec::new(), |_, _| {}) == plain;
            assert!(same, "byte {at} was changed unseen");
        }
    }
    // Behind the digests stands nothing but an end mark, which some writers leave out.
    let end = plain.len() - 2048;
    for cut in (0..=end).step_by(plain.len() / 23).map(|at| at / 512 * 512) {
        there.refuses(&plain[..cut]);
    }
    // The image has digests of its own, and its archive words that say nothing.
    let image = plain.windows(9).position(|name| name == export::IMAGE.as_bytes()).unwrap();
    for (at, byte) in plain[..image].iter().enumerate().step_by(image / 41) {
        let mut changed = plain.clone();
        changed[at] = byte.wrapping_add(1);
        // Padding is nobody's.
        assert!(!there.takes(&changed) || *byte == 0, "byte {at} was changed unseen");
    }
}

/// The same archive with each member changed, written to `output`.
fn repacked<W: Write>(archive: &[u8], output: W, change: impl Fn(&mut Entry, &mut Vec<u8>)) -> W {
    let mut reader = images::tar::read(archive).unwrap();
    let mut writer = Writer::new(output);
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        change(&mut entry, &mut bytes);
        if let Kind::File { size } = &mut entry.kind {
            *size = bytes.len() as u64;
        }
        writer.append(&entry).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.end().unwrap();
    writer.into_output()
}

/// The same, compressed.
fn changed(archive: &[u8], change: impl Fn(&mut Entry, &mut Vec<u8>)) -> Vec<u8> {
    repacked(archive, Compressor::new(Vec::new()).unwrap(), change).finish().unwrap()
}

/// The same archive with another document.
fn with_document(archive: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    changed(archive, |entry, bytes| {
        if entry.path == DESCRIPTION.as_bytes() {
            let mut document = serde_json::from_slice(bytes).unwrap();
            change(&mut document);
            *bytes = serde_json::to_vec(&document).unwrap();
        }
    })
}

#[test]
fn documents_that_make_no_sense_are_refused() {
    let (here, image) = Here::with_image();
    here.make("warm", image);
    let archive = here.export("warm");
    let there = Here::new();
    let cases: [(&str, serde_json::Value, &str); 16] = [
        ("/version", 2.into(), "a newer hyperrun (version 2)"),
        ("/name", "../../etc".into(), "its name is none"),
        ("/name", ".new-x".into(), "its name is none"),
        ("/id", "../x".into(), "an id is none"),
        ("/container/id", "x".into(), "an id is none"),
        ("/container/name", "a\u{1b}[2J".into(), "its container's name is none"),
        ("/container/container/hostname", "a b".into(), "its host name is none"),
        ("/container/image_id", "../../x".into(), "its image's id is none"),
        ("/container/image", "a\nb".into(), "control characters"),
        ("/container/vm/memory_mib", 0.into(), "no machine has so much memory"),
        ("/container/vm/memory_mib", 128.into(), "memory has another size"),
        ("/container/vm/vcpus", 200.into(), "no machine has so many CPUs"),
        ("/needs/kernel", "9.9".into(), "it was made under Linux 9.9"),
        ("/needs/processor", "x".into(), "it was made on another kind of processor"),
        ("/needs/protocol", 1.into(), "its agent speaks version 1"),
        ("/container", 7.into(), "this is no exported snapshot"),
    ];
    for (place, value, wanted) in cases {
        let archive = with_document(&archive, |document| {
            *document.pointer_mut(place).unwrap() = value.clone();
        });
        let told = there.refuses(&archive);
        assert!(told.contains(wanted), "{place}: {told}");
    }
    // What makes sense, but is not what was exported.
    let told = there.refuses(&with_document(&archive, |document| {
        *document.pointer_mut("/pause_us").unwrap() = 77.into();
    }));
    assert_eq!(told, "the exported snapshot is damaged: snapshot.json has another digest");
}

#[test]
fn members_that_are_no_files_of_a_snapshot_are_refused() {
    let (here, image) = Here::with_image();
    here.make("warm", image);
    let archive = here.export("warm");
    let there = Here::new();
    let member = |name: &'static str, change: &dyn Fn(&mut Entry, &mut Vec<u8>)| {
        there.refuses(&changed(&archive, |entry, bytes| {
            if entry.path == name.as_bytes() {
                change(entry, bytes);
            }
        }))
    };
    let renamed = |entry: &mut Entry, _: &mut Vec<u8>| entry.path = b"../../state".to_vec();
    let linked = |entry: &mut Entry, bytes: &mut Vec<u8>| {
        entry.kind = Kind::Symlink { target: b"/etc/passwd".to_vec() };
        bytes.clear();
    };
    let larger = |entry: &mut Entry, _: &mut Vec<u8>| {
        if let Kind::SparseFile { size, .. } = &mut entry.kind {
            *size = 1 << 50;
        }
    };
    let other = |_: &mut Entry, bytes: &mut Vec<u8>| bytes[0] ^= 1;
    for (told, wanted) in [
        (member(STATE, &renamed), "state is not where it must be"),
        (member(MEMORY, &linked), "memory is no file"),
        (member(DESCRIPTION, &linked), "snapshot.json is too large, or no file"),
        (member(MEMORY, &larger), "memory has another size"),
        (member(SCRATCH, &larger), "scratch has another size"),
        (member(BLANK, &larger), "blank has another size"),
        (member(SCRATCH, &other), "scratch has another digest"),
        (member(BLANK, &other), "blank has another digest"),
        (member(STATE, &other), "state has another digest"),
        (member(export::IMAGE, &linked), "the image is no file"),
        (member(export::IMAGE, &|_, bytes| bytes.truncate(512)), "archive"),
        (member(export::SUMS, &|_, bytes| bytes.clear()), "the exported snapshot is damaged"),
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(there.refuses(b"no archive at all").contains("cannot read the exported snapshot"));
}

#[test]
fn an_image_that_comes_along_takes_no_name_and_no_place_of_another() {
    let (here, image) = Here::with_image();
    here.make("warm", image);
    let archive = here.export("warm");
    // Another image in the place of the snapshot's, with a name that is known here.
    let other = docker_archive("motd:1", &[Layer::new().file("x", b"evil").finish()]);
    let there = Here::new();
    let told = there.refuses(&changed(&archive, |entry, bytes| {
        if entry.path == export::IMAGE.as_bytes() {
            bytes.clone_from(&other);
        }
    }));
    assert!(told.contains("image"), "{told}");
}
