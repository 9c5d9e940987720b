//! A store in trouble: no room, no permission, and several commands at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hyperrun_tests::archive::{Layer, docker_archive};
use hyperrun_tests::{Output, Sandbox, SmallDisk, environment_of};

use super::{empty_store, layer, load};

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let small = SmallDisk::new(3);
    let sandbox = Sandbox::at(small.path());
    load(&sandbox, &docker_archive("small:1", &[layer("x")])).code_is(0);
    let before = sandbox.stored();
    let large = [Layer::new().file("f", &vec![7; 4 << 20]).finish()];
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("large.tar");
    fs::write(&path, docker_archive("large:1", &large)).unwrap();
    let from_file = sandbox.hyperrun(["load", "-i", path.to_str().unwrap()]);
    let from_stdin = load(&sandbox, &fs::read(&path).unwrap());
    for out in [from_file, from_stdin] {
        out.fails_with(1, "No space left on device").stderr_has("hint: free some space");
        out.stderr_has("write");
    }
    assert_eq!(sandbox.stored(), before);

    fs::write(small.path().join("filler"), vec![1; 4 << 20]).unwrap_err();
    load(&sandbox, &docker_archive("next:1", &[layer("y")])).fails_with(1, "No space left");
    assert_eq!(sandbox.stored(), before);
    sandbox.hyperrun(["images"]).code_is(0).stdout_has("small");
    sandbox.hyperrun(["rmi", "small:1"]).code_is(0).stdout_has("Untagged: small:1");
    fs::remove_file(small.path().join("filler")).unwrap();
    load(&sandbox, &docker_archive("next:1", &[layer("y")])).code_is(0);
}

/// Runs the binary as this user without the privilege to pass by permissions.
fn without_privilege(sandbox: &Sandbox, arguments: &[&str], input: &Path) -> Output {
    let plain = sandbox.command(arguments);
    let mut command = Command::new(plain.get_program());
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.arg("--bounding-set=-dac_override,-dac_read_search").arg(plain.get_program());
    }
    command.args(plain.get_args());
    command.envs(environment_of(&plain));
    command.stdin(fs::File::open(input).unwrap());
    Output::new(format!("{command:?}"), command.output().unwrap())
}

#[test]
fn a_store_that_may_not_be_used_is_named() {
    let (sandbox, root) = empty_store();
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("archive.tar");
    fs::write(&archive, docker_archive("next:1", &[layer("y")])).unwrap();
    load(&sandbox, &docker_archive("there:1", &[layer("x")])).code_is(0);
    let before = sandbox.stored();
    let run = |arguments: &[&str]| without_privilege(&sandbox, arguments, &archive);
    let refused = |arguments: &[&str], path: &Path| {
        run(arguments).fails_with(1, path.to_str().unwrap()).stderr_has("Permission denied");
        run(arguments).stderr_has("hint: run as the store's owner");
    };
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let store = root.path().join("images");

    set_mode(&store.join("tmp"), 0o500);
    refused(&["load"], &store.join("tmp"));
    run(&["images"]).code_is(0).stdout_has("there");
    set_mode(&store.join("tmp"), 0o700);

    set_mode(&store.join("records"), 0o500);
    refused(&["load"], &store.join("records"));
    refused(&["rmi", "there:1"], &store.join("records"));
    set_mode(&store.join("records"), 0o700);

    set_mode(&store, 0);
    refused(&["images"], &store);
    refused(&["load"], &store);
    refused(&["rmi", "there:1"], &store);
    set_mode(&store, 0o700);
    assert_eq!(sandbox.stored(), before);

    let elsewhere = tempfile::tempdir().unwrap();
    set_mode(elsewhere.path(), 0o500);
    let sandbox = Sandbox::at(elsewhere.path().join("new"));
    let out = without_privilege(&sandbox, &["load"], &archive);
    out.fails_with(1, "error: cannot create folder ").stderr_has("hint: ");
    let file = Sandbox::at(&archive);
    file.hyperrun(["images"]).fails_with(1, archive.to_str().unwrap());
}

fn spawn(sandbox: &Sandbox, arguments: &[&str]) -> Child {
    let mut command = sandbox.command(arguments);
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    silent.spawn().unwrap()
}

#[test]
fn loads_of_one_archive_at_once() {
    let (sandbox, root) = empty_store();
    let layers = [1, 2, 3].map(|at| Layer::new().file("f", &vec![at; 1 << 20]).finish());
    let archive = root.path().join("archive.tar");
    fs::write(&archive, docker_archive("both:1", &layers)).unwrap();
    let arguments = ["load", "-i", archive.to_str().unwrap()];
    let loads = [(); 3].map(|()| spawn(&sandbox, &arguments));
    for mut load in loads {
        assert!(load.wait().unwrap().success());
    }
    let at_once = sandbox.stored();
    sandbox.hyperrun(["rmi", "both:1"]).code_is(0);
    sandbox.hyperrun(arguments).code_is(0);
    assert_eq!(sandbox.stored(), at_once);
}

#[test]
fn a_load_beside_a_removal() {
    let (sandbox, root) = empty_store();
    let layers = [layer("x")];
    let archive = root.path().join("archive.tar");
    fs::write(&archive, docker_archive("stays:1", &layers)).unwrap();
    for _ in 0..5 {
        load(&sandbox, &docker_archive("goes:1", &layers)).code_is(0);
        let both = [
            spawn(&sandbox, &["load", "-i", archive.to_str().unwrap()]),
            spawn(&sandbox, &["rmi", "goes:1"]),
        ];
        for mut one in both {
            assert!(one.wait().unwrap().success());
        }
        let listed = sandbox.hyperrun(["images"]);
        listed.stdout_has("stays");
        assert!(!listed.stdout.contains("goes"), "{}", listed.stdout);
    }
}
