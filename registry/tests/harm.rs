//! Pulls that are killed, that meet each other, that need much memory, and stores of a newer version.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a failed test shows its seed and what it has met")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Kind, Registry, User};
use images::{Depth, Fetch, Order, Transfer};
use tests::archive::{Layer, gzip, zstd_with_window};
use tests::{Changes, Sample, Snapshot};

const CLIENT: &str = env!("CARGO_BIN_EXE_hyperrun-registry");

/// A registry that has an image of three layers under the name.
fn registry_with_layers() -> (Registry, String) {
    let registry = Registry::start(Kind::Plain);
    let name = format!("{}/web:1", registry.address);
    let layers: Vec<Vec<u8>> = (0..3_u8)
        .map(|at| {
            let files = (0..20).map(|file| format!("layer-{at}/file-{file}"));
            files.fold(Layer::new(), |layer, path| layer.file(&path, &[at; 9000])).finish()
        })
        .collect();
    let user = User::new();
    user.load_layers(&name, &layers);
    user.push(&name).succeeds();
    (registry, name)
}

#[test]
fn a_pull_that_is_killed_leaves_a_store_that_is_whole() {
    let (_registry, name) = registry_with_layers();
    let user = User::new();
    // Makes the folders that are watched.
    user.store();
    let changes = Changes::of(&user.images());
    user.pull(&name).succeeds();
    let (total, whole) = (changes.count(), Snapshot::of(&user.images()));
    assert!(total > 20, "{total} changes");
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    let (mut there, mut unfinished) = (0, 0);
    for _ in 0..50 {
        drop(user.store().remove(&name, false, &images::no_users));
        let moment = sample.below(total);
        let changes = Changes::of(&user.images());
        let mut child = user.spawn(Transfer::Pull(user.pull_order(&name)));
        changes.wait(moment, &mut child);
        drop(child.kill());
        child.wait().unwrap();
        let left = |folder: &str| fs::read_dir(user.images().join(folder)).unwrap().count();
        let parts: usize = ["layers", "blobs/sha256", "disks", "tmp"].into_iter().map(left).sum();
        there += usize::from(left("records") > 0);
        unfinished += usize::from(left("records") == 0 && parts > 0);
        // What `hyperrun system check --full` does, without its words.
        let findings = user.store().check(Depth::Contents).unwrap();
        assert_eq!(findings.damaged, [], "behind change {moment} of {total}");
        if let Ok(image) = user.store().find(&name) {
            image.disk().unwrap();
        }
    }
    println!("{there} whole, {unfinished} unfinished");
    assert!(unfinished > 5, "the kills have met nothing: {there} whole, {unfinished} unfinished");
    drop(user.store().remove(&name, false, &images::no_users));
    user.pull(&name).succeeds();
    assert_eq!(Snapshot::of(&user.images()), whole);
}

#[test]
fn pulls_of_one_image_at_once_do_each_other_no_harm() {
    let (_registry, name) = registry_with_layers();
    let (once, user) = (User::new(), User::new());
    once.pull(&name).succeeds();
    for _ in 0..3 {
        let pulls = [(); 3].map(|()| user.spawn(Transfer::Pull(user.pull_order(&name))));
        for pull in pulls {
            let output = pull.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let findings = user.store().check(Depth::Contents).unwrap();
        assert_eq!((findings.damaged, findings.images), (Vec::new(), 1));
        assert_eq!(Snapshot::of(&user.images()), Snapshot::of(&once.images()));
        user.store().remove(&name, false, &images::no_users).unwrap();
    }
}

#[test]
fn a_newer_store_is_left_alone() {
    let (_registry, name) = registry_with_layers();
    let user = User::new();
    user.pull(&name).succeeds();
    fs::write(user.images().join("version"), "2\n").unwrap();
    let before = Snapshot::of(&user.images());
    let words = "has version 2, this program knows 1";
    user.pull(&name).fails_with(words);
    user.push(&name).fails_with(words);
    let fetch = Fetch { store: user.images(), name: name.clone() };
    user.client(Transfer::Fetch(fetch), "").fails_with(words);
    assert_eq!(Snapshot::of(&user.images()), before);
}

/// Lets a child run to its end; gives the most memory it had resident, in KiB. What the kernel says of it
/// only grows.
fn peak_kib(child: &mut Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(number.unwrap_or(0));
    }
    peak
}

#[test]
fn windows_of_zstd_do_not_add_up() {
    let registry = Registry::start(Kind::Plain);
    let (user, other) = (User::new(), User::new());
    let name = format!("{}/windows:1", registry.address);
    // Each is longer than its window, so that all of that is used.
    let layers: Vec<Vec<u8>> =
        (1..4).map(|at| Layer::new().file("f", &vec![at; 40 << 20]).finish()).collect();
    let stored: Vec<Vec<u8>> = layers.iter().map(|layer| zstd_with_window(layer, 25)).collect();
    user.load_stored(&name, &layers, &stored);
    user.push(&name).succeeds();
    let mut pull = other.spawn(Transfer::Pull(other.pull_order(&name)));
    let peak = peak_kib(&mut pull);
    assert!(pull.wait().unwrap().success());
    println!("{peak} KiB");
    // One window of 32 MiB, and the rest of a pull. Three would be 96 MiB.
    assert!((32 << 10..64 << 10).contains(&peak), "{peak} KiB");
}

/// A registry that takes what it is asked, and never answers.
fn silent_registry() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/x:1", listener.local_addr().unwrap());
    (listener, name)
}

/// Waits for a client that asks for the image.
fn client_of(listener: &TcpListener) -> BufReader<TcpStream> {
    let (connection, _) = listener.accept().unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut asked = BufReader::new(connection);
    let mut line = String::new();
    asked.read_line(&mut line).unwrap();
    assert!(line.starts_with("GET /v2/x/manifests/1 "), "{line}");
    asked
}

#[test]
fn a_pull_ends_with_the_process_that_waits_for_it() {
    let user = User::new();
    let (listener, name) = silent_registry();
    let transfer = Transfer::Pull(user.pull_order(&name));
    let (version, parent) = (env!("CARGO_PKG_VERSION").to_owned(), Some(u32::MAX));
    let order = Order { version, parent, transfer }.to_argument();
    let script = "\"$0\" \"$(printf %s \"$1\" | sed \"s/4294967295/$$/\")\"; echo ended";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, CLIENT, &order]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut shell = shell.stderr(Stdio::null()).spawn().unwrap();
    let mut client = client_of(&listener);
    shell.kill().unwrap();
    shell.wait().unwrap();
    // It hangs up; were it to wait for the answer, this would be an error after a while.
    client.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_pull_whose_waiter_has_gone_before_it_began_does_nothing() {
    let user = User::new();
    let (listener, name) = silent_registry();
    let transfer = Transfer::Pull(user.pull_order(&name));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    // Nobody has this number.
    let order = Order { version, parent: Some(u32::MAX), transfer };
    let output = Command::new(CLIENT).arg(order.to_argument()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(125), Vec::new()));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err() && !user.images().exists());
}

#[test]
fn an_image_that_came_without_a_manifest_gets_that_of_the_registry() {
    let registry = Registry::start(Kind::Plain);
    let (user, other) = (User::new(), User::new());
    let name = format!("{}/web:1", registry.address);
    let plain = Layer::new().file("a", b"a").finish();
    user.load_layers(&name, std::slice::from_ref(&plain));
    user.push(&name).succeeds();
    other.load_docker_archive(&name);
    assert_eq!(other.store().find(&name).unwrap().manifest, None);
    other.pull(&name).succeeds();
    assert_eq!(other.manifest(&name), user.manifest(&name));
    // All that the manifest speaks of is here, and stays when nobody is at work.
    let image = other.store().find(&name).unwrap();
    assert!(image.blob(tests_digest(&gzip(&plain))).is_some() && !image.lacks_blobs());
    let findings = other.store().check(Depth::Contents).unwrap();
    assert_eq!((findings.damaged, findings.unused), (Vec::new(), Some(Vec::new())));
    let target = Registry::start(Kind::Plain);
    let second = format!("{}/web:1", target.address);
    other.store().tag(&name, second.parse().unwrap()).unwrap();
    other.push(&second).succeeds();
    let third = User::new();
    third.pull(&second).succeeds();
    assert_eq!(third.manifest(&second), user.manifest(&name));
}

fn tests_digest(bytes: &[u8]) -> images::Digest {
    tests::archive::digest(bytes).parse().unwrap()
}
