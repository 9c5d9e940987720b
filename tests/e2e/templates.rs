//! Templates: made by the first run, used by all later ones, never in the way, and unlike each other
//! where that matters.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod images;
mod kernels;
mod trouble;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use hyperrun_tests::{Output, ReadOnly, Running, Sandbox, SmallDisk, sample_size};

/// A state folder of this test's own with the busybox image, and nothing that a run makes.
struct Home {
    folder: tempfile::TempDir,
    sandbox: Sandbox,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::with_busybox(folder.path()).with_templates();
        Self { folder, sandbox }
    }

    /// One in which a run has made a template.
    fn with_template() -> Self {
        let home = Self::new();
        home.succeeds();
        home
    }

    fn run(&self, script: &str) -> Output {
        self.sandbox.hyperrun(["run", "--rm", "busybox", "sh", "-c", script])
    }

    /// A run that has nothing to complain of.
    #[track_caller]
    fn succeeds(&self) {
        self.run("echo hi; exit 7").code_is(7).stdout_is("hi\n").stderr_is("");
    }

    fn templates(&self) -> PathBuf {
        self.folder.path().join("templates")
    }

    /// The names in the folder of templates, without locks.
    fn names(&self) -> Vec<String> {
        names(&self.templates())
    }

    /// The only template.
    #[track_caller]
    fn template(&self) -> PathBuf {
        let names = self.names();
        assert!(matches!(&names[..], [name] if !name.contains('.')), "one template: {names:?}");
        self.sandbox
            .hyperrun(["template", "ls", "-q"])
            .code_is(0)
            .stdout_is(&format!("{}\n", names[0]));
        self.templates().join(&names[0])
    }

    /// Whether a machine has gone on from the template: the first one notes what it writes.
    fn was_used(&self) -> bool {
        self.template().join("working-set").exists()
    }

    fn spawn(&self) -> Child {
        let mut command = self.sandbox.command(["run", "--rm", "busybox", "echo", "hi"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// So many runs at once, none of which has anything to complain of.
    #[track_caller]
    fn succeed_at_once(&self, count: usize) {
        let children: Vec<Child> = (0..count).map(|_| self.spawn()).collect();
        for child in children {
            let out = Output::new("run".to_owned(), child.wait_with_output().unwrap());
            out.code_is(0).stdout_is("hi\n").stderr_is("");
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

#[test]
fn the_first_run_makes_a_template_and_the_second_uses_it() {
    let home = Home::new();
    home.sandbox.hyperrun(["template", "ls", "-q"]).code_is(0).stdout_is("");
    home.succeeds();
    let template = home.template();
    assert!(!home.was_used());
    let state = fs::read(template.join("state")).unwrap();
    home.succeeds();
    assert!(home.was_used());
    assert!(fs::read(template.join("state")).unwrap() == state, "it stays as it is");
    let row = home.sandbox.hyperrun(["template", "ls"]);
    row.stdout_has("TEMPLATE").stdout_has("512MiB").stdout_has(" ago\n");
}

#[test]
fn every_shape_has_its_template() {
    let home = Home::with_template();
    let script = "grep -c ^processor /proc/cpuinfo";
    for _ in 0..2 {
        home.sandbox
            .hyperrun(["run", "--rm", "-m", "256m", "--cpus", "2", "busybox", "sh", "-c", script])
            .code_is(0)
            .stdout_is("2\n");
    }
    let format = "{{.Memory}} {{.CPUs}}";
    let out = home.sandbox.hyperrun(["template", "ls", "--format", format]);
    out.code_is(0).stdout_is("256MiB 2\n512MiB 1\n");
}

#[test]
fn a_template_can_be_made_ahead_and_removed() {
    let home = Home::new();
    let built = home.sandbox.hyperrun(["template", "build"]);
    built.code_is(0).stderr_is("");
    let name = built.stdout.trim().to_owned();
    assert!(home.template().ends_with(&name));
    home.sandbox.hyperrun(["template", "build"]).code_is(0).stdout_is(&built.stdout);
    home.succeeds();
    assert!(home.was_used(), "the run goes on from what was built");
    let deleted = format!("Deleted: {name}\n");
    home.sandbox.hyperrun(["template", "rm", &name[..6]]).code_is(0).stdout_is(&deleted);
    home.sandbox.hyperrun(["template", "rm", &name]).fails_with(1, "no such template");
    home.succeeds();
    home.sandbox.hyperrun(["template", "prune"]).code_is(0).stdout_has(&deleted);
    assert_eq!(fs::read_dir(home.templates()).unwrap().count(), 0);
}

#[test]
fn a_removed_template_is_not_missed_by_who_came_from_it() {
    let home = Home::with_template();
    let script = "echo ready; sleep 2; md5sum /bin/busybox > /sum && echo done";
    let command = home.sandbox.command(["run", "--rm", "busybox", "sh", "-c", script]);
    let mut running = Running::start(command);
    running.wait_for("ready\n");
    home.sandbox.hyperrun(["template", "prune"]).code_is(0);
    running.finish().code_is(0).stdout_is("ready\ndone\n").stderr_is("");
}

#[test]
fn clones_are_not_each_other() {
    let home = Home::with_template();
    let script = "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/hostname; \
                  head -c 64 /dev/urandom | md5sum; cat /proc/sys/kernel/random/uuid";
    let (one, other) = (home.run(script), home.run(script));
    assert!(home.was_used());
    for out in [&one, &other] {
        out.code_is(0).stderr_is("");
        assert_eq!(out.stdout.lines().count(), 4, "{}", out.stdout);
    }
    for (one, other) in one.stdout.lines().zip(other.stdout.lines()) {
        assert_ne!(one, other);
    }
}

#[test]
fn clones_draw_other_random_numbers() {
    // By the system call itself, which is number 318.
    let script =
        "$b = \"\\0\" x 32; syscall(318, $b, 32, 0) == 32 or die; print unpack(\"H*\", $b)";
    let draw = || {
        let words = ["run", "--rm", "debian:bookworm", "perl", "-e", script];
        let out = Sandbox::with_images().with_templates().hyperrun(words);
        out.code_is(0).stderr_is("");
        assert_eq!(out.stdout.len(), 64, "{}", out.stdout);
        out.stdout
    };
    draw();
    let mut drawn = [draw(), draw(), draw()];
    drawn.sort();
    assert!(drawn.is_sorted_by(|one, next| one < next), "{drawn:?}");
}

#[test]
fn the_clock_of_a_clone_is_the_hosts() {
    const TOLERANCE: Duration = Duration::from_millis(100);
    let run = |arguments: &[&str]| {
        let all = [&["run", "--rm", "debian:bookworm"], arguments].concat();
        Sandbox::with_images().with_templates().hyperrun(all)
    };
    let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    run(&["true"]).code_is(0);
    // A clone whose clock merely went on would be at least this late.
    std::thread::sleep(Duration::from_secs(2));
    let before = since_1970();
    let out = run(&["date", "+%s %N"]);
    let after = since_1970();
    out.code_is(0);
    let (seconds, nanoseconds) = out.stdout.trim().split_once(' ').unwrap();
    let (seconds, nanoseconds) = (seconds.parse().unwrap(), nanoseconds.parse().unwrap());
    let seen = Duration::new(seconds, nanoseconds);
    assert!(
        before <= seen + TOLERANCE && seen <= after + TOLERANCE,
        "{seen:?} is not between {before:?} and {after:?}"
    );
}

#[test]
fn the_other_clocks_of_a_clone_go_on() {
    let home = Home::with_template();
    let script = "read before _ < /proc/uptime; sleep 1; read after _ < /proc/uptime; \
                  echo ${before%.*} ${after%.*}";
    let out = home.run(script);
    out.code_is(0).stderr_is("");
    let seconds: Vec<u64> =
        out.stdout.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [before, after] = seconds[..] else { panic!("{}", out.stdout) };
    assert!((1..=30).contains(&(after - before)), "{before} s, then {after} s");
    assert!(before < 3600, "{before} s");
}

#[test]
fn a_template_without_its_state_is_made_anew() {
    let home = Home::with_template();
    let template = home.template();
    fs::remove_file(template.join("state")).unwrap();
    home.succeeds();
    home.succeeds();
    assert!(template.join("working-set").exists());
    assert_eq!(home.names().len(), 2, "and the half of one is set aside");
}

#[test]
fn a_folder_that_cannot_be_written_is_only_slower() {
    let home = Home::new();
    fs::create_dir(home.templates()).unwrap();
    let _mounted = ReadOnly::new(&home.templates());
    home.run("echo hi")
        .code_is(0)
        .stdout_is("hi\n")
        .stderr_has("warning: no template can be made: ");
    assert!(home.names().is_empty());
}

#[test]
fn a_template_that_cannot_be_changed_is_used() {
    let home = Home::with_template();
    let _mounted = ReadOnly::new(&home.templates());
    home.succeeds();
    assert!(!home.was_used(), "there is no way to note it");
}

#[test]
fn a_broken_template_that_cannot_be_set_aside_is_told_each_time() {
    let home = Home::with_template();
    File::options().write(true).open(home.template().join("state")).unwrap().set_len(9).unwrap();
    let _mounted = ReadOnly::new(&home.templates());
    for _ in 0..2 {
        home.run("exit 7").code_is(7).stderr_has("; booting instead\n");
    }
}

#[test]
fn a_disk_too_small_for_a_template_is_large_enough_for_a_run() {
    // Less than the guest's kernel needs in memory.
    const LEFT_BYTES: u64 = 6 << 20;
    let disk = SmallDisk::new(48);
    let sandbox = Sandbox::with_busybox(disk.path()).with_templates();
    sandbox.hyperrun(["run", "--rm", "--no-template", "busybox", "true"]).code_is(0);
    let free = rustix::fs::statvfs(disk.path()).unwrap();
    let filler = usize::try_from(free.f_bavail * free.f_frsize - LEFT_BYTES).unwrap();
    fs::write(disk.path().join("filler"), vec![1; filler]).unwrap();
    for _ in 0..2 {
        sandbox
            .hyperrun(["run", "--rm", "busybox", "sh", "-c", "echo hi > /file; cat /file"])
            .code_is(0)
            .stdout_is("hi\n")
            .stderr_has("warning: no template was made: ");
        assert!(names(&disk.path().join("templates")).is_empty());
    }
}

#[test]
fn two_first_runs_at_once_make_one_template() {
    let home = Home::new();
    home.succeed_at_once(2);
    home.template();
    home.succeeds();
    assert!(home.was_used());
}

#[test]
fn no_template_means_none_made_and_none_used() {
    let home = Home::new();
    let boot = || {
        let out = home.sandbox.hyperrun(["run", "--rm", "--no-template", "busybox", "echo", "hi"]);
        out.code_is(0).stdout_is("hi\n").stderr_is("");
    };
    boot();
    assert!(home.names().is_empty());
    home.succeeds();
    // Whoever looked at it would complain.
    File::options().write(true).open(home.template().join("state")).unwrap().set_len(9).unwrap();
    boot();
    home.template();
}

#[test]
#[ignore = "takes long: the soak runs it"]
fn hundreds_of_starts_succeed() {
    let home = Home::with_template();
    for number in 0..sample_size(500) {
        let script = format!("echo {number}");
        home.run(&script).code_is(0).stdout_is(&format!("{number}\n")).stderr_is("");
    }
    assert!(home.was_used());
}

#[test]
fn many_starts_at_once_succeed() {
    let home = Home::with_template();
    // 512 in rows of 16, when all are asked for.
    for _ in 0..sample_size(32) {
        home.succeed_at_once(sample_size(16).max(4));
    }
    assert!(home.was_used());
}
