//! A load, an import or a removal that is killed at any moment leaves a store that `system check` calls whole.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a failed test shows its seed and what it has met")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use common::{at, load};
use tests::archive::{Layer, docker_archive};
use tests::{Changes, Sample, Sandbox, sample_size};

/// Moments tried with `HYPERRUN_TEST_FULL`, of each way to kill.
const MOMENTS: usize = 50;

/// Three layers, each of enough files that a kill can hit the middle of it.
fn archive() -> Vec<u8> {
    let mut noise = 1_u32;
    let mut layer = |at: usize| {
        let mut layer = Layer::new();
        for file in 0..40 {
            let data: Vec<u8> = (0..8_000)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    noise.to_be_bytes()[0]
                })
                .collect();
            layer = layer.file(&format!("layer-{at}/file-{file}"), &data);
        }
        layer.finish()
    };
    let layers: Vec<Vec<u8>> = (0..3).map(&mut layer).collect();
    docker_archive("crash:1", &layers)
}

fn start(sandbox: &Sandbox, arguments: &[&str], stdin: Stdio) -> Child {
    let mut command = sandbox.command(arguments);
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    // One that has ended already cannot be killed.
    drop(child.kill());
    child.wait().unwrap();
}

/// What kills have met: a test that hits nothing but beginnings and ends proves little.
#[derive(Debug, Default)]
struct Met {
    kills: usize,
    /// The image was there.
    whole: usize,
    /// Parts were there that no image has.
    unfinished: usize,
}

impl Drop for Met {
    fn drop(&mut self) {
        println!("{self:?}");
        if !std::thread::panicking() && self.kills == MOMENTS {
            assert!(self.unfinished > 5, "{self:?}");
        }
    }
}

/// What a kill must leave, and the way back to a store with the image in it.
fn judge(sandbox: &Sandbox, archive: &Path, met: &mut Met, when: &str) {
    let left = |folder| {
        let folder = archive.with_file_name("images").join(folder);
        fs::read_dir(folder).map_or(0, Iterator::count)
    };
    let parts = ["layers", "disks", "blobs/sha256", "tmp"].into_iter().map(left).sum::<usize>();
    met.kills += 1;
    met.whole += usize::from(left("records") > 0);
    met.unfinished += usize::from(left("records") == 0 && parts > 0 || left("tmp") > 0);
    let out = sandbox.hyperrun(["system", "check", "--full"]);
    assert_eq!(out.code, 0, "after a kill {when}:\n{}{}", out.stdout, out.stderr);
    assert!(out.stdout.ends_with(": whole\n"), "after a kill {when}:\n{}", out.stdout);
    // An image that is listed works, name or no name.
    for id in sandbox.hyperrun(["images", "-q"]).code_is(0).stdout.lines() {
        sandbox.hyperrun(["image", "export", id]).code_is(0);
        sandbox.hyperrun(["save", "-o", "/dev/null", id]).code_is(0);
    }
    sandbox.hyperrun(["load", "-i", archive.to_str().unwrap()]).code_is(0);
}

/// Loading and removing once more leaves nothing: what the kills have left is found by then.
fn nothing_is_left(root: &Path, sandbox: &Sandbox) {
    if !sandbox.hyperrun(["images", "-q", "imported"]).stdout.is_empty() {
        sandbox.hyperrun(["rmi", "imported:1"]).code_is(0);
    }
    // An import that was killed between record and name leaves an image that has none.
    sandbox.hyperrun(["image", "prune", "-f"]).code_is(0);
    sandbox.hyperrun(["rmi", "crash:1"]).code_is(0);
    sandbox
        .hyperrun(["system", "check"])
        .code_is(0)
        .stdout_is("0 images, 0 layers, 0 blobs: whole\n");
    for folder in ["records", "layers", "disks", "blobs/sha256", "tmp"] {
        let left = fs::read_dir(root.join("images").join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}

struct Scene {
    root: tempfile::TempDir,
    sandbox: Sandbox,
    bytes: Vec<u8>,
    archive: std::path::PathBuf,
    sample: Sample,
}

fn scene() -> Scene {
    let root = tempfile::tempdir().unwrap();
    let (sandbox, bytes, archive) = (at(root.path()), archive(), root.path().join("archive.tar"));
    fs::write(&archive, &bytes).unwrap();
    let sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    Scene { root, sandbox, bytes, archive, sample }
}

#[test]
fn a_load_is_killed_while_its_archive_comes() {
    let mut scene = scene();
    let mut met = Met::default();
    for _ in 0..sample_size(MOMENTS) {
        scene.sandbox.hyperrun(["image", "prune", "-a", "-f"]).code_is(0);
        let sent = scene.sample.below(scene.bytes.len() + 1);
        let mut child = start(&scene.sandbox, &["load"], Stdio::piped());
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&scene.bytes[..sent]).unwrap();
        // The pipe is still open: a load that has got everything but the end waits for it.
        kill(child);
        judge(
            &scene.sandbox,
            &scene.archive,
            &mut met,
            &format!("behind byte {sent} of the archive"),
        );
    }
    nothing_is_left(scene.root.path(), &scene.sandbox);
}

/// Bytes that a process has given to write(2) and its like; `None` when it has ended.
fn written(child: &Child) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/io", child.id())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}

#[test]
fn a_load_is_killed_while_it_writes() {
    let mut scene = scene();
    let arguments = ["load", "-i", scene.archive.to_str().unwrap()];
    let mut whole = start(&scene.sandbox, &arguments, Stdio::null());
    let mut total = 0;
    while whole.try_wait().unwrap().is_none() {
        total = written(&whole).unwrap_or(0).max(total);
    }
    assert!(total > 2 * 900_000, "blobs and data come to {total} bytes");
    let mut met = Met::default();
    for _ in 0..sample_size(MOMENTS) {
        scene.sandbox.hyperrun(["image", "prune", "-a", "-f"]).code_is(0);
        let moment = scene.sample.below(usize::try_from(total).unwrap()) as u64;
        let mut child = start(&scene.sandbox, &arguments, Stdio::null());
        while written(&child).is_some_and(|written| written < moment) {
            if child.try_wait().unwrap().is_some() {
                break;
            }
        }
        kill(child);
        judge(
            &scene.sandbox,
            &scene.archive,
            &mut met,
            &format!("at {moment} of {total} bytes written"),
        );
    }
    nothing_is_left(scene.root.path(), &scene.sandbox);
}

/// Kills a command behind any of the changes that it makes in the store's folders. `prepare` makes the
/// store that the command begins with.
fn kill_between_changes(arguments: &[&str], prepare: &[&str]) {
    let mut scene = scene();
    load(&scene.sandbox, &scene.bytes);
    let archive = scene.archive.to_str().unwrap().to_owned();
    let fill = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| word.replace("ARCHIVE", &archive)).collect()
    };
    let (arguments, prepare) = (fill(arguments), fill(prepare));
    let total = {
        scene.sandbox.hyperrun(&prepare).code_is(0);
        let changes = Changes::of(&scene.root.path().join("images"));
        scene.sandbox.hyperrun(&arguments).code_is(0);
        changes.count()
    };
    assert!(total > 15, "{total} changes");
    let mut met = Met::default();
    for _ in 0..sample_size(MOMENTS) {
        scene.sandbox.hyperrun(&prepare).code_is(0);
        let moment = scene.sample.below(total);
        let changes = Changes::of(&scene.root.path().join("images"));
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = start(&scene.sandbox, &words, Stdio::null());
        changes.wait(moment, &mut child);
        kill(child);
        let when = format!("behind change {moment} of {total}");
        judge(&scene.sandbox, &scene.archive, &mut met, &when);
    }
    nothing_is_left(scene.root.path(), &scene.sandbox);
}

#[test]
fn a_load_is_killed_between_any_two_changes() {
    kill_between_changes(&["load", "-i", "ARCHIVE"], &["image", "prune", "-a", "-f"]);
}

#[test]
fn an_import_is_killed_between_any_two_changes() {
    // An archive is a tar, and so a file tree.
    kill_between_changes(&["import", "ARCHIVE", "imported:1"], &["image", "prune", "-a", "-f"]);
}

#[test]
fn a_prune_is_killed_between_any_two_changes() {
    kill_between_changes(&["image", "prune", "-a", "-f"], &["load", "-i", "ARCHIVE"]);
}

#[test]
fn a_removal_is_killed_between_any_two_changes() {
    kill_between_changes(&["rmi", "crash:1"], &["load", "-i", "ARCHIVE"]);
}

/// Loads, names, saves and removes images that share layers with everybody else's, and looks on.
fn work(sandbox: &Sandbox, archive: &Path, own: usize, rounds: usize) {
    let name = format!("own-{own}:1");
    for round in 0..rounds {
        let run = |arguments: &[&str]| {
            let out = sandbox.hyperrun(arguments);
            assert_eq!(
                out.code, 0,
                "{own} in round {round}: {arguments:?}: {}{}",
                out.stdout, out.stderr
            );
            out
        };
        run(&["load", "-i", archive.to_str().unwrap()]);
        run(&["tag", &format!("loaded-{own}:1"), &name]);
        run(&["image", "export", "-o", "/dev/null", &name]);
        let check = ["system", "check", "--full"];
        let check = run(if round % 2 == 0 { &check } else { &check[..2] });
        assert!(check.stdout.ends_with(": whole\n"), "{}", check.stdout);
        run(&["rmi", &format!("loaded-{own}:1")]);
        run(&["system", "df", "-v"]);
        run(&["rmi", &name]);
    }
}

#[test]
fn many_at_once_do_each_other_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let sandbox = at(root.path());
    let shared = Layer::new().file("shared", &vec![1; 1 << 20]).finish();
    let rounds = sample_size(30);
    std::thread::scope(|scope| {
        for own in 0..4 {
            // Two and two have the very same image, and all have a layer in common.
            let layer = Layer::new().file("own", format!("{}", own / 2).as_bytes()).finish();
            let archive = root.path().join(format!("{own}.tar"));
            let name = format!("loaded-{own}:1");
            fs::write(&archive, docker_archive(&name, &[shared.clone(), layer])).unwrap();
            let sandbox = &sandbox;
            scope.spawn(move || work(sandbox, &archive, own, rounds));
        }
    });
    sandbox.hyperrun(["image", "prune", "-a", "-f"]).code_is(0);
    let check = sandbox.hyperrun(["system", "check", "--full"]);
    check.code_is(0).stdout_is("0 images, 0 layers, 0 blobs: whole\n");
}
