//! Entries of all kinds, honest and not.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use protocol::{FileItem, Links};

use super::*;
use crate::{Items, Sender, Source};

fn entry(path: &str, kind: FileKind) -> FileEntry {
    FileEntry {
        path: path.into(),
        kind,
        mode: 0o640,
        uid: 12345,
        gid: 12345,
        modified: (1_700_000_000, 5),
        xattrs: Vec::new(),
    }
}

fn file(path: &str) -> FileEntry {
    entry(path, FileKind::File { size: 3, segments: None })
}

fn link(path: &str, target: &str) -> FileEntry {
    entry(path, FileKind::Link { target: target.into() })
}

fn folder(path: &str) -> FileEntry {
    FileEntry { mode: 0o755, ..entry(path, FileKind::Folder) }
}

fn same(path: &str, first: &str) -> FileEntry {
    entry(path, FileKind::SameAs { path: first.into() })
}

fn stranger(root: &Path, name: &str) -> Receiver {
    Receiver::new(OwnedFd::from(File::open(root).unwrap()), name.into(), Rules::STRANGER)
}

fn take(receiver: &mut Receiver, entry: &FileEntry) -> Result<Option<&'static str>, String> {
    receiver.take(entry, &mut &b"abc"[..]).map_err(|error| error.to_string())
}

#[test]
fn a_stranger_never_leaves_the_destination() {
    let home = tempfile::tempdir().unwrap();
    let (inside, outside) = (home.path().join("inside"), home.path().join("outside"));
    fs::create_dir_all(&inside).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "mine").unwrap();
    symlink(&outside, inside.join("theirs")).unwrap();
    let mut receiver = stranger(&inside, "");
    for link_to in [outside.to_str().unwrap(), "../outside", "/"] {
        take(&mut receiver, &link("way-out", link_to)).unwrap();
        for path in ["way-out/x", "way-out/a/b", "theirs/x"] {
            for entry in [file(path), folder(path), link(path, "y"), same(path, "theirs/secret")] {
                assert!(take(&mut receiver, &entry).is_err(), "{entry:?}");
            }
        }
        assert!(take(&mut receiver, &same("stolen", "way-out/secret")).is_err());
        assert!(take(&mut receiver, &folder("way-out")).is_err());
    }
    for path in ["../x", "a/../../x", "..", "a/..", ".", "a/./b", "x\0y"] {
        assert!(take(&mut receiver, &file(path)).is_err(), "{path}");
        assert!(take(&mut receiver, &same("stolen", path)).is_err(), "{path}");
    }
    // A path from the root is one from the destination.
    take(&mut receiver, &file("/etc/hosts")).unwrap();
    assert!(inside.join("etc/hosts").is_file());
    // What is in the way is replaced, not written through.
    take(&mut receiver, &link("there", "../outside/secret")).unwrap();
    take(&mut receiver, &file("there")).unwrap();
    assert!(fs::symlink_metadata(inside.join("there")).unwrap().is_file());
    receiver.finish().unwrap();
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
}

#[test]
fn a_stranger_gets_no_power() {
    let home = tempfile::tempdir().unwrap();
    let mut receiver = stranger(home.path(), "");
    let mut mighty = FileEntry { mode: 0o6755, ..file("mighty") };
    mighty.xattrs = vec![(b"user.x".to_vec(), b"y".to_vec())];
    take(&mut receiver, &mighty).unwrap();
    for kind in
        [FileKind::CharDevice { major: 1, minor: 1 }, FileKind::BlockDevice { major: 8, minor: 0 }]
    {
        assert_eq!(take(&mut receiver, &entry("device", kind)), Ok(Some("it is a device")));
    }
    take(&mut receiver, &FileEntry { mode: 0o4777, ..folder("folder") }).unwrap();
    take(&mut receiver, &entry("pipe", FileKind::Fifo)).unwrap();
    receiver.finish().unwrap();
    let metadata = |name: &str| fs::symlink_metadata(home.path().join(name)).unwrap();
    let (file, mine) = (metadata("mighty"), fs::metadata(home.path()).unwrap());
    assert_eq!(file.permissions().mode() & 0o7777, 0o755);
    assert_eq!((file.uid(), file.gid()), (mine.uid(), mine.gid()));
    assert_eq!(metadata("folder").permissions().mode() & 0o7777, 0o777);
    assert!(metadata("pipe").file_type().is_fifo());
    assert!(!home.path().join("device").exists());
    let mut names = [0; 64];
    assert_eq!(rustix::fs::listxattr(home.path().join("mighty"), &mut names[..]), Ok(0));
}

#[test]
fn folders_and_files_do_not_take_each_others_place() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("folder/full")).unwrap();
    fs::write(home.path().join("file"), "old").unwrap();
    let mut receiver = stranger(home.path(), "");
    let said = take(&mut receiver, &file("folder")).unwrap_err();
    assert_eq!(said, "cannot overwrite directory with non-directory: \"folder\"");
    let said = take(&mut receiver, &folder("file")).unwrap_err();
    assert_eq!(said, "cannot overwrite non-directory with directory: \"file\"");
    take(&mut receiver, &file("file")).unwrap();
    take(&mut receiver, &folder("folder")).unwrap();
    receiver.finish().unwrap();
    assert_eq!(fs::read(home.path().join("file")).unwrap(), b"abc");
    assert!(home.path().join("folder/full").is_dir());
}

#[test]
fn lengths_that_make_no_sense_are_refused_and_long_holes_cost_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut receiver = stranger(home.path(), "");
    let sparse = |segments| entry("x", FileKind::File { size: 1 << 40, segments: Some(segments) });
    assert!(take(&mut receiver, &sparse(vec![(1, 3), (2, 1)])).is_err());
    assert!(take(&mut receiver, &sparse(vec![(u64::MAX, 3)])).is_err());
    let mut ends_early = file("y");
    ends_early.kind = FileKind::File { size: 1 << 50, segments: None };
    assert!(take(&mut receiver, &ends_early).is_err());
    take(&mut receiver, &sparse(vec![(1 << 30, 3)])).unwrap();
    let metadata = fs::metadata(home.path().join("x")).unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() * 512 < 1 << 20);
}

#[test]
fn a_tree_comes_back_as_it_went() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("a/new\nline"), "text").unwrap();
    fs::write(from.join("a/odd"), vec![7; 200_000]).unwrap();
    fs::hard_link(from.join("a/odd"), from.join("a/b/twin")).unwrap();
    symlink("/nowhere", from.join("link")).unwrap();
    let sparse = File::create(from.join("sparse")).unwrap();
    sparse.set_len(1 << 33).unwrap();
    fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
    let source = Source::find(&from, Links::Kept).unwrap();
    let mut sender = Sender::new(Vec::new());
    sender.tree(&source).unwrap();
    sender.finish(&FileItem::Done).unwrap();
    let bytes = sender.into_inner();
    assert!(bytes.len() < 300_000, "a hole costs nothing: {}", bytes.len());
    let mut receiver = stranger(&to, "copy");
    let mut items = Items::new(&bytes[..]);
    loop {
        match items.next_item().unwrap() {
            FileItem::Entry(entry) => assert_eq!(receiver.take(&entry, &mut items).unwrap(), None),
            FileItem::Done => break,
            other => panic!("{other:?}"),
        }
    }
    receiver.finish().unwrap();
    let copy = to.join("copy");
    assert_eq!(fs::read(copy.join("a/new\nline")).unwrap(), b"text");
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("/nowhere"));
    let twins = ["a/odd", "a/b/twin"].map(|name| fs::metadata(copy.join(name)).unwrap().ino());
    assert_eq!(twins[0], twins[1]);
    for name in ["a", "a/b", "a/odd", "sparse", "link"] {
        let metadata = |root: &Path| fs::symlink_metadata(root.join(name)).unwrap();
        let (old, new) = (metadata(&from), metadata(&copy));
        assert_eq!(
            (old.mode(), old.mtime(), old.mtime_nsec()),
            (new.mode(), new.mtime(), new.mtime_nsec()),
            "{name}"
        );
        assert!(new.is_dir() || old.len() == new.len(), "{name}");
    }
}

/// The word of a list that a number stands for.
fn word<'a>(words: &[&'a str], number: usize) -> &'a str {
    words[number % words.len()]
}

proptest::proptest! {
    #[test]
    fn whatever_a_stranger_sends_stays_inside(
        said in proptest::collection::vec((0..6_usize, 0..64_usize, 0..64_usize, 0..8_usize), 1..30)
    ) {
        const NAMES: [&str; 8] = ["a", "b", "c", "..", ".", "", "/", "out"];
        const TARGETS: [&str; 8] =
            ["..", "../outside", "/", "a", "../outside/secret", ".", "a/b", "../inside"];
        let home = tempfile::tempdir().unwrap();
        let (inside, outside) = (home.path().join("inside"), home.path().join("outside"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "mine").unwrap();
        symlink("../outside", inside.join("out")).unwrap();
        let before = fs::metadata(&outside).unwrap();
        let mut receiver = stranger(&inside, "");
        for (kind, one, two, target) in said {
            let path = format!("{}/{}", word(&NAMES, one), word(&NAMES, two));
            let path = if one % 3 == 0 { word(&NAMES, two).to_owned() } else { path };
            let entry = match kind {
                0 => folder(&path),
                1 => link(&path, word(&TARGETS, target)),
                2 => same(&path, word(&TARGETS, target)),
                3 => entry(&path, FileKind::Fifo),
                _ => file(&path),
            };
            let _ = take(&mut receiver, &entry);
        }
        let _ = receiver.finish();
        let after = fs::metadata(&outside).unwrap();
        proptest::prop_assert_eq!(fs::read(outside.join("secret")).unwrap(), b"mine");
        proptest::prop_assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
        proptest::prop_assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
        proptest::prop_assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        proptest::prop_assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }
}
