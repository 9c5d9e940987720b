//! The store beneath the commands: damaged, newer, full, and shared. Needs root for small disks.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;

use common::{at, empty_store, labelled, largest_blob, layer, load, three_images, tool};
use tests::SmallDisk;
use tests::archive::{Layer, config, docker_archive, docker_archive_of};

#[test]
fn a_damaged_blob_is_not_saved() {
    let (sandbox, root) = empty_store();
    load(&sandbox, &docker_archive("one:1", &[layer("1")]));
    let blob = largest_blob(root.path());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[700] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let to = root.path().join("out");
    let save = |format: &str| {
        sandbox.hyperrun(["save", "--format", format, "-o", to.to_str().unwrap(), "one:1"])
    };
    save("docker-archive").fails_with(1, "is damaged: its digest is not the one it goes by");
    save("oci-dir").fails_with(1, "is damaged");
    fs::write(&blob, &bytes[..512]).unwrap();
    save("oci-archive").fails_with(1, "is damaged: it is too short");
    assert!(!to.exists());
    let left = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["events", "images"], "the store, and what has happened");
}

#[test]
fn damage_is_found() {
    let (sandbox, root) = three_images();
    let check = |arguments: &[&str]| sandbox.hyperrun(["system", "check"].iter().chain(arguments));
    check(&[]).code_is(0).stdout_is("4 images, 4 layers, 8 blobs: whole\n");
    check(&["--full"]).code_is(0).stdout_is("4 images, 4 layers, 8 blobs: whole\n");
    let images = root.path().join("images");
    let first = |folder: &str, file: &str| {
        let mut paths: Vec<_> =
            fs::read_dir(images.join(folder)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths[0].join(file)
    };
    let record = first("records", "");
    let record = record.to_str().unwrap().trim_end_matches('/').to_owned();
    let blob = largest_blob(root.path());
    // What only the slow check finds, and what the quick one does.
    let cases = [
        (first("layers", "data"), true, "it is not what its blob unpacks to"),
        (blob, true, "its digest is not the one it goes by"),
        (first("layers", "tree"), false, ""),
        (first("disks", "meta.erofs"), false, "its superblock has a wrong checksum"),
        (record.into(), false, ""),
        (first("layers", "origin.json"), false, ""),
        (images.join("names.json"), false, ""),
    ];
    for (path, only_full, reason) in cases {
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&path, &bad).unwrap();
        let wanted = format!("damaged  {}: {reason}", path.display());
        let depth: &[&str] = if only_full { &["--full"] } else { &[] };
        let out = check(depth);
        out.code_is(1).stdout_has(&wanted).stdout_has(": damaged\n");
        if only_full {
            check(&[]).code_is(0);
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        check(&["--full"]).code_is(1).stdout_has(&format!("damaged  {}: ", path.display()));
        fs::write(&path, &good).unwrap();
    }
    let extra = images.join("layers").join("0".repeat(64));
    fs::create_dir(&extra).unwrap();
    check(&[]).code_is(0).stdout_has(&format!("unused   {}\n", extra.display()));
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let (sandbox, root) = three_images();
    fs::write(root.path().join("images/version"), "2\n").unwrap();
    let before = sandbox.stored();
    for arguments in [
        &["images"][..],
        &["tag", "old:1", "x"],
        &["save", "old:1"],
        &["import", "-"],
        &["image", "export", "old:1"],
        &["history", "old:1"],
        &["inspect", "old:1"],
        &["rmi", "old:1"],
        &["image", "prune", "-f"],
        &["system", "df"],
        &["system", "check"],
        &["load"],
    ] {
        let out = sandbox.hyperrun_with_input(arguments, &labelled("x:1", "", "", ""));
        out.fails_with(1, "has version 2, this program knows 1").stderr_has("hint: update");
    }
    assert_eq!(sandbox.stored(), before);
}

#[test]
fn a_full_disk_is_named() {
    let small = SmallDisk::new(3);
    let sandbox = at(small.path());
    let large = Layer::new().file("f", &vec![7; 4 << 20]).finish();
    sandbox.hyperrun(["images", "-q"]).code_is(0);
    let before = sandbox.stored();
    let out = sandbox.hyperrun_with_input(["import", "-"], &large);
    out.fails_with(1, "No space left on device").stderr_has("hint: free some space");
    assert_eq!(sandbox.stored(), before);

    let (full, _root) = empty_store();
    full.hyperrun_with_input(["import", "-", "large"], &large).code_is(0);
    let to = small.path().join("out");
    let to = to.to_str().unwrap();
    for arguments in [
        &["save", "-o", to, "large"][..],
        &["save", "--format", "oci-dir", "-o", to, "large"],
        &["image", "export", "-o", to, "large"],
    ] {
        let out = full.hyperrun(arguments);
        out.fails_with(1, &format!("cannot write {to}: No space left on device"));
        out.stderr_has("hint: free some space, or write to another disk");
        let left = fs::read_dir(small.path()).unwrap().count();
        assert_eq!(left, 1, "only the store is left after {arguments:?}");
    }
}

#[test]
fn layers_are_kept_once() {
    let (sandbox, root) = empty_store();
    let noise: Vec<u8> =
        (0..4_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let base = Layer::new().file("base", &noise).finish();
    let used = || {
        let text = tool("du", &["-sk", root.path().join("images").to_str().unwrap()]);
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    load(&sandbox, &docker_archive("base:1", std::slice::from_ref(&base)));
    let one = used();
    load(&sandbox, &docker_archive("derived:1", &[base.clone(), layer("x")]));
    let both = used();
    let kib = both - one;
    assert!(one > 8 << 10 && kib < 100, "the base takes {one} KiB, the second image {kib} KiB");

    // A disk's metadata is made for a set of layers, whatever else the images say.
    let disks = || {
        let mut disks: Vec<_> = fs::read_dir(root.path().join("images/disks"))
            .unwrap()
            .map(|entry| entry.unwrap().path().join("meta.erofs"))
            .map(|path| (fs::metadata(&path).unwrap().modified().unwrap(), path))
            .collect();
        disks.sort();
        disks
    };
    let before = disks();
    assert_eq!(before.len(), 2);
    let layers = [base.clone()];
    let config = String::from_utf8(config(&layers)).unwrap();
    let other = config.replace("A=b", "A=other");
    load(&sandbox, &docker_archive_of("other:1", other.as_bytes(), &layers));
    assert_eq!(disks(), before, "the same layers are the same disk");
    load(&sandbox, &docker_archive("third:1", &[layer("x"), base]));
    assert_eq!(disks()[..2], before[..]);
    assert_eq!(disks().len(), 3);

    let df = sandbox.hyperrun(["system", "df", "-v"]);
    df.code_is(0).stdout_has("SHARED SIZE   UNIQUE SIZE").stdout_has("derived");
    let total =
        sandbox.hyperrun(["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]);
    total.stdout_is("Images 4 0\nContainers 0 0\nSnapshots 0 0\n");
    sandbox.hyperrun(["rmi", "derived:1", "other:1", "third:1"]).code_is(0);
    assert!(used() <= one + 8, "{} KiB are left of {one}", used());
}
