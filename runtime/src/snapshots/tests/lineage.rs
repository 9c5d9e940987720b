//! Snapshots that lie over others.

use super::*;
use crate::containers::CopyOf;
use crate::snapshots::lineage::MOST_BENEATH;
use crate::templates::{Templates, Wanted};

#[test]
fn a_snapshot_lies_over_one_of_the_same_container_or_of_its_origin() {
    let (here, image) = Here::with_image();
    let record = here.record(image);
    let found = |record: &Record| here.snapshots().parent_of(record).map(|parent| parent.name);
    assert_eq!(found(&record), None);
    here.make("first", image);
    assert_eq!(found(&record).as_deref(), Some("first"));
    let copy = Record { id: "b".repeat(64), ..record.clone() };
    assert_eq!(found(&copy), None);
    let origin = |name: &str| CopyOf { snapshot: Some(name.to_owned()), container: "c".repeat(64) };
    assert_eq!(found(&Record { copy_of: Some(origin("gone")), ..copy.clone() }), None);
    let copy = Record { copy_of: Some(origin("first")), ..copy };
    assert_eq!(found(&copy).as_deref(), Some("first"));
    let vm = VmConfig { memory_mib: 2 * MEMORY_MIB, vcpus: 1 };
    assert_eq!(found(&Record { vm, ..copy }), None);
    let last = here.make("last", image);
    assert_eq!(found(&record).as_deref(), Some("last"));
    let description = Description { beneath: MOST_BENEATH, ..last.description.clone() };
    let text = serde_json::to_vec(&description).unwrap();
    fs::write(last.folder.join(DESCRIPTION), text).unwrap();
    assert_eq!(found(&record), None, "the next one is whole");
}

#[test]
fn what_was_taken_along_in_vain_is_removed() {
    let (here, image) = Here::with_image();
    let parent = here.make("first", image);
    let unfinished = here.snapshots().begin(&"second".parse().unwrap()).unwrap();
    // Its state, and a file each of its memory and its disk.
    assert_eq!(unfinished.lie_over(&parent).len(), 3);
    let lower = ["memory.1", "scratch.1"].map(|name| unfinished.folder().join(name));
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&lower[0]), inode(&parent.folder.join(MEMORY)));
    assert_eq!(inode(&lower[1]), inode(&parent.folder.join(SCRATCH)));
    // What both have counts once.
    let mut description = parent.description.clone();
    description.beneath = 1;
    let second = unfinished.described(description);
    let both = bytes_of_all(&[parent.clone(), second.clone()]);
    assert!(both >= second.bytes() && both < second.bytes() + parent.bytes());
    // The machine was saved as a whole.
    fs::write(unfinished.folder().join(STATE), SAVED).unwrap();
    assert_eq!(unfinished.beneath().unwrap(), 0);
    assert!(lower.iter().all(|path| !path.exists()));
    // Nothing lies over one that is damaged.
    fs::write(parent.folder.join(SCRATCH), "changed").unwrap();
    assert!(unfinished.lie_over(&parent).is_empty());
}

#[test]
fn what_has_become_of_its_name_since_is_not_taken_for_a_snapshot() {
    let (here, image) = Here::with_image();
    let parent = here.make("first", image);
    here.snapshots().remove("first", &here.places).unwrap();
    let unknown = |snapshot: &Snapshot| {
        let error = snapshot.open().unwrap_err();
        assert!(matches!(error, Error::Snapshot(SnapshotError::Unknown { .. })), "{error}");
    };
    unknown(&parent);
    let other = here.make("first", image);
    other.open().unwrap();
    unknown(&parent);
    let unfinished = here.snapshots().begin(&"second".parse().unwrap()).unwrap();
    assert!(unfinished.lie_over(&parent).is_empty());
    assert!(!unfinished.lie_over(&other).is_empty());
}

#[test]
fn the_first_snapshot_lies_over_the_template_of_its_image() {
    let (here, image) = Here::with_image();
    let vm = VmConfig { memory_mib: MEMORY_MIB, vcpus: 1 };
    let (key, kernel) = ("0123456789abcdef".to_owned(), PathBuf::from("vmlinux"));
    let wanted =
        Wanted { key: key.clone(), basis: key.clone(), shape: vm, kernel, image: Some(image) };
    let folder = here.places.templates().join(&key);
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("memory", ""), ("scratch", ""), ("working-set", "r 0 4096\n")] {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join(STATE), SAVED).unwrap();
    let template = Templates::new(here.places.templates()).find(&wanted).unwrap();
    let unfinished = here.snapshots().begin(&"first".parse().unwrap()).unwrap();
    // Its state and its memory, and a disk that has nothing.
    assert_eq!(unfinished.lie_over_template(template).len(), 3);
    let lower = ["memory.1", "scratch.1"].map(|name| unfinished.folder().join(name));
    let looks = lower.each_ref().map(|path| fs::metadata(path).unwrap());
    assert_eq!(looks[0].ino(), fs::metadata(folder.join(MEMORY)).unwrap().ino());
    assert_eq!((looks[1].len(), looks[1].modified().unwrap()), (0, SystemTime::UNIX_EPOCH));
    let text = fs::read_to_string(unfinished.folder().join("working-set")).unwrap();
    assert_eq!(text, "borrowed\nr 0 4096\n");
    // Nothing lies over another one that has its name by now.
    let template = Templates::new(here.places.templates()).find(&wanted).unwrap();
    fs::remove_file(folder.join(MEMORY)).unwrap();
    fs::write(folder.join(MEMORY), "").unwrap();
    let other = here.snapshots().begin(&"other".parse().unwrap()).unwrap();
    assert!(other.lie_over_template(template).is_empty());
    // It was of no use to the machine.
    fs::write(unfinished.folder().join(STATE), SAVED).unwrap();
    assert_eq!(unfinished.beneath().unwrap(), 0);
    assert!(lower.iter().all(|path| !path.exists()));
}
