//! Kernels that the machine of a template has prepared for others that boot.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a failed test shows how far it came")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use hyperrun_tests::Running;

use super::Home;
use super::trouble::{Spoil, copy_folder};

/// Shows how many processors there are, and what the kernel holds against itself; then waits.
const LOOK: &str = "nproc; cat /proc/sys/kernel/tainted; echo ready; cat";
/// Where the kernel's text begins in the file, and what no processor goes through.
const TEXT: u64 = 16 << 20;
const TRAPS: [u8; 4096] = [0xcc; 4096];

#[test]
fn a_boot_shares_the_kernel_that_a_template_has_prepared() {
    let home = Home::new();
    for cpus in ["1", "2"] {
        home.sandbox.hyperrun(["template", "build", "--cpus", cpus]).code_is(0);
        let ls = ["template", "ls", "--format", "{{.CPUs}} {{.Name}}"];
        let templates = home.sandbox.hyperrun(ls).stdout;
        let line = templates.lines().find_map(|line| line.strip_prefix(cpus)?.strip_prefix(' '));
        let kernel = home.templates().join(line.unwrap()).join("kernel");
        let boot = |when: &str| {
            let words = ["run", "-i", "--rm", "--network", "none", "--no-template", "--cpus", cpus];
            let program = ["busybox", "sh", "-c", LOOK];
            let mut command = home.sandbox.command(words.into_iter().chain(program));
            command.env("HYPERRUN_PREPARED_KERNEL", when);
            let mut running = Running::start_listening(command);
            running.wait_for("ready\n");
            let is_shared = running.machine_maps(&kernel);
            running.finish().code_is(0).stdout_is(&format!("{cpus}\n0\nready\n")).stderr_is("");
            is_shared
        };
        assert!(boot("auto"));
        assert!(!boot("never"));
    }
}

/// Makes a change one that a look does not see.
fn hide(file: &File) {
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

#[test]
fn a_spoilt_kernel_is_set_aside_with_its_template() {
    let home = Home::with_template();
    let (template, kept) = (home.template(), home.folder.path().join("kept"));
    copy_folder(&template, &kept);
    let boot = || home.sandbox.hyperrun(["run", "--rm", "--no-template", "busybox", "echo", "hi"]);
    let spoilt: [&Spoil; 5] = [
        &|file, bytes| file.set_len(bytes / 2).unwrap(),
        &|file, _| file.set_len(0).unwrap(),
        &|file, _| file.write_all_at(b"x", TEXT).unwrap(),
        // What a look does not see through: it has no headers, or its code leads nowhere.
        &|file, _| {
            file.write_all_at(&[0xff; 4096], 0).unwrap();
            hide(file);
        },
        &|file, _| {
            file.write_all_at(&TRAPS, TEXT).unwrap();
            hide(file);
        },
    ];
    for (number, spoil) in spoilt.into_iter().enumerate() {
        home.spoil(&kept, &template, "kernel", spoil);
        println!("number {number}");
        boot()
            .code_is(0)
            .stdout_is("hi\n")
            .stderr_has("warning: the template is broken: ")
            .stderr_has("; booting instead\n");
        home.has_set_aside();
        boot().code_is(0).stdout_is("hi\n").stderr_is("");
    }
}

#[test]
fn a_check_finds_a_kernel_that_was_changed() {
    let home = Home::with_template();
    let kernel = home.template().join("kernel");
    let file = File::options().write(true).open(&kernel).unwrap();
    file.write_all_at(b"x", TEXT).unwrap();
    hide(&file);
    let check = home.sandbox.hyperrun(["template", "check"]);
    check.code_is(1).stdout_has(": its kernel has a wrong checksum\n1 template: damaged\n");
}

#[test]
fn a_kernel_cut_while_it_is_in_use_ends_its_boot_and_nothing_else() {
    let home = Home::with_template();
    let script = "echo ready; cat; for i in 1 2 3; do find /proc /sys >/dev/null 2>&1; done";
    let words = ["run", "--rm", "-i", "--no-template", "busybox", "sh", "-c", script];
    let mut running = Running::start_listening(home.sandbox.command(words));
    running.wait_for("ready\n");
    let kernel = home.template().join("kernel");
    File::options().write(true).open(kernel).unwrap().set_len(0).unwrap();
    running.finish().code_is(125).stdout_is("ready\n").stderr_has("error: ");
    // Those that go on from the template have no part in it.
    home.succeeds();
    home.sandbox.hyperrun(["ps", "-aq"]).code_is(0).stdout_is("");
}

#[test]
fn a_boot_that_shares_a_kernel_goes_on_from_a_snapshot_without_it() {
    let home = Home::with_template();
    let script = "echo here >/dev/shm/mark; echo ready; while :; do sleep 1; done";
    let words = ["run", "-d", "--no-template", "--name", "web", "busybox", "sh", "-c", script];
    home.sandbox.hyperrun(words).code_is(0);
    let mut follower = Running::start(home.sandbox.command(["logs", "-f", "web"]));
    follower.wait_for("ready\n");
    follower.kill();
    home.sandbox.does("exec web cat /dev/shm/mark").stdout_is("here\n");
    for name in ["first", "second"] {
        home.sandbox.does(&format!("snapshot create web {name}"));
    }
    home.sandbox.does("exec web uname -s").stdout_is("Linux\n");
    home.sandbox.does("rm -f web");
    home.sandbox.does("template prune");
    for name in ["first", "second"] {
        home.sandbox.does(&format!("restore -d --name of-{name} {name}"));
        home.sandbox.does(&format!("exec of-{name} cat /dev/shm/mark")).stdout_is("here\n");
        home.sandbox.does(&format!("rm -f of-{name}"));
    }
}
