//! Templates that are spoilt, whose makers are killed, and that meet a clock that jumps.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a failed test shows how far it came")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hyperrun_tests::{Running, Sample, sample_size};
use rustix::time::{ClockId, clock_gettime, clock_settime};

use super::Home;

/// Does something to a file, which is given with its length.
pub(super) type Spoil = dyn Fn(&File, u64);

impl Home {
    /// Puts back a template that was kept, as the only one, and spoils one of its files.
    pub(super) fn spoil(&self, kept: &Path, template: &Path, file: &str, spoil: &Spoil) {
        self.sandbox.hyperrun(["template", "prune"]).code_is(0);
        copy_folder(kept, template);
        let file = File::options().read(true).write(true).open(template.join(file)).unwrap();
        spoil(&file, file.metadata().unwrap().len());
    }

    /// The only template was set aside.
    #[track_caller]
    pub(super) fn has_set_aside(&self) {
        let aside = self.names();
        assert!(matches!(&aside[..], [name] if name.ends_with(".broken")), "{aside:?}");
    }
}

/// Copies a folder with its files' holes and dates.
#[track_caller]
pub(super) fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success(), "{} to {}", from.display(), to.display());
}

#[test]
fn a_spoilt_template_is_set_aside() {
    let home = Home::with_template();
    let template = home.template();
    let kept = home.folder.path().join("kept");
    copy_folder(&template, &kept);
    let spoilt: [(&str, &Spoil); 6] = [
        ("state", &|file, bytes| file.set_len(bytes / 2).unwrap()),
        ("state", &|file, _| file.set_len(0).unwrap()),
        ("state", &|file, bytes| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, bytes / 2).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], bytes / 2).unwrap();
        }),
        // Another version.
        ("state", &|file, _| file.write_all_at(&[99], 8).unwrap()),
        ("memory", &|file, bytes| file.set_len(bytes / 2).unwrap()),
        ("memory", &spoil_a_bit),
    ];
    // A copy of it is as good, as long as nobody spoils it.
    home.sandbox.hyperrun(["template", "prune"]).code_is(0);
    copy_folder(&kept, &template);
    home.succeeds();
    assert!(home.was_used());
    for (number, (file, spoil)) in spoilt.into_iter().enumerate() {
        home.spoil(&kept, &template, file, spoil);
        println!("number {number}");
        home.run("echo hi; exit 7")
            .code_is(7)
            .stdout_is("hi\n")
            .stderr_has("warning: the template is broken: ")
            .stderr_has("; booting instead\n");
        home.has_set_aside();
    }
    home.succeeds();
    home.sandbox.hyperrun(["template", "prune"]).code_is(0);
    home.succeeds();
    assert!(!home.was_used(), "it is made anew");
    home.succeeds();
    assert!(home.was_used());
}

/// Changes a bit in the first page that is not zero.
fn spoil_a_bit(file: &File, bytes: u64) {
    let mut page = vec![0; 4096];
    let page_at = (0..bytes).step_by(4096).find(|at| {
        file.read_exact_at(&mut page, *at).unwrap();
        page.iter().any(|byte| *byte != 0)
    });
    file.write_all_at(&[page[77] ^ 0x10], page_at.unwrap() + 77).unwrap();
}

#[test]
fn what_a_look_does_not_see_a_check_does() {
    let home = Home::with_template();
    let check = || home.sandbox.hyperrun(["template", "check"]);
    check().code_is(0).stdout_is("1 template: whole\n");
    home.succeeds();
    check().code_is(0).stdout_is("1 template: whole\n");
    let memory = home.template().join("memory");
    let memory = File::options().read(true).write(true).open(memory).unwrap();
    let dated = memory.metadata().unwrap().modified().unwrap();
    spoil_a_bit(&memory, memory.metadata().unwrap().len());
    memory.set_modified(dated).unwrap();
    check().code_is(1).stdout_has(": its memory has a wrong checksum\n1 template: damaged\n");
}

#[test]
fn a_template_cut_while_it_is_in_use_ends_its_copy_and_nothing_else() {
    let home = Home::with_template();
    // It reads of the guest's memory what nobody has touched: the kernel's own code and tables.
    let script = "echo ready; cat; for i in 1 2 3; do find /proc /sys >/dev/null 2>&1; done";
    let command = home.sandbox.command(["run", "--rm", "-i", "busybox", "sh", "-c", script]);
    let mut running = Running::start_listening(command);
    running.wait_for("ready\n");
    let memory = home.template().join("memory");
    File::options().write(true).open(memory).unwrap().set_len(0).unwrap();
    let out = running.finish();
    out.code_is(125).stdout_is("ready\n").stderr_has("error: ");
    home.run("echo hi").code_is(0).stdout_is("hi\n").stderr_has("it has another length");
    home.succeeds();
    home.sandbox.hyperrun(["ps", "-aq"]).code_is(0).stdout_is("");
}

/// The moments of these, in milliseconds, that are tried: all, or one that the seed chooses.
fn moments<const COUNT: usize>(mut all: [u64; COUNT]) -> impl Iterator<Item = u64> {
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    all.swap(0, sample.below(COUNT));
    all.into_iter().take(sample_size(COUNT))
}

#[test]
fn a_run_killed_at_any_moment_leaves_nothing_in_the_way() {
    for delay_ms in moments([10, 100, 300, 1000]) {
        let home = Home::new();
        let command = home.sandbox.command(["run", "--rm", "busybox", "sleep", "1000"]);
        let mut running = Running::start(command);
        std::thread::sleep(Duration::from_millis(delay_ms));
        running.kill();
        // One that had begun goes on.
        home.sandbox.remove_containers();
        running.finish().code_is(137);
        home.succeeds();
        home.succeeds();
        assert!(home.was_used(), "killed after {delay_ms} ms");
    }
}

#[test]
fn a_supervisor_killed_at_any_moment_leaves_nothing_in_the_way() {
    for delay_ms in moments([0, 400, 900, 1400, 2000]) {
        let home = Home::new();
        // Who sets a network up has another child first.
        let words = ["run", "--rm", "--network", "none", "busybox", "sleep", "1000"];
        let running = Running::start(home.sandbox.command(words));
        running.await_supervisor();
        std::thread::sleep(Duration::from_millis(delay_ms));
        running.kill_supervisor();
        running.finish().code_is(125);
        home.succeeds();
        home.succeeds();
        assert!(home.was_used(), "killed after {delay_ms} ms");
        home.sandbox.hyperrun(["template", "check"]).code_is(0).stdout_is("1 template: whole\n");
    }
}

#[test]
#[ignore = "takes long: the soak runs it"]
fn a_build_killed_at_any_moment_leaves_nothing_in_the_way() {
    for delay_ms in [10, 200, 500, 1000, 1500] {
        let home = Home::new();
        let mut running = Running::start(home.sandbox.command(["template", "build"]));
        std::thread::sleep(Duration::from_millis(delay_ms));
        running.kill();
        running.finish();
        home.sandbox.hyperrun(["template", "build"]).code_is(0).stderr_is("");
        home.succeeds();
        assert!(home.was_used(), "killed after {delay_ms} ms");
    }
}

/// Puts the clock of the lab forward or back, and right again when dropped.
struct Jump {
    by_seconds: i64,
}

impl Jump {
    /// None where the clock is not ours to set: that of a person's machine.
    fn of(by_seconds: i64) -> Option<Self> {
        std::env::var_os("HYPERRUN_LAB")?;
        step_clock(by_seconds);
        Some(Self { by_seconds })
    }
}

impl Drop for Jump {
    fn drop(&mut self) {
        step_clock(-self.by_seconds);
    }
}

fn step_clock(by_seconds: i64) {
    let mut now = clock_gettime(ClockId::Realtime);
    now.tv_sec += by_seconds;
    clock_settime(ClockId::Realtime, now).unwrap();
}

#[test]
#[ignore = "moves the lab's clock by years, which it may not survive: the soak runs it"]
fn a_clock_that_jumps_takes_runs_and_templates_along() {
    const YEAR: i64 = 365 * 24 * 3600;
    let home = Home::with_template();
    let template = home.template();
    let command =
        home.sandbox.command(["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo on"]);
    let mut running = Running::start_listening(command);
    running.say("ready\n");
    running.wait_for("ready\n");
    let year = || {
        let out = home.run("date +%Y");
        out.code_is(0).stderr_is("");
        out.stdout.trim().parse::<i64>().unwrap()
    };
    let before = year();
    let in_lab = std::env::var_os("HYPERRUN_LAB").is_some();
    for years in [20, -3] {
        let jump = Jump::of(years * YEAR);
        let (seen, expected) = (year(), before + if in_lab { years } else { 0 });
        assert!((expected - 1..=expected + 1).contains(&seen), "{seen}, not {expected}");
        home.sandbox.hyperrun(["template", "ls"]).code_is(0).stdout_has("512MiB");
        home.sandbox.hyperrun(["ps"]).code_is(0).stdout_has("busybox");
        // One that is made anew does not drive out the others for their age.
        home.sandbox.does("run --rm -m 256m busybox true").stderr_is("");
        drop(jump);
        assert_eq!(home.names().len(), 2);
    }
    running.finish().code_is(0).stdout_is("ready\non\n").stderr_is("");
    assert!(template.join("working-set").exists());
}
