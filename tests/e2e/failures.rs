//! What goes wrong while a container runs: nothing is left behind, and it is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use hyperrun_tests::{Running, Sandbox, SmallDisk, Snapshot, environment_of, initramfs};

/// A state folder of this test's own with the busybox image, after three runs: disks and template are
/// made, and it is known what the template's copies write.
struct Home {
    folder: tempfile::TempDir,
    sandbox: Sandbox,
    before: Snapshot,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::with_busybox(folder.path());
        for _ in 0..3 {
            sandbox.hyperrun(["run", "--rm", "busybox", "true"]).code_is(0);
        }
        let before = Snapshot::of(folder.path());
        Self { folder, sandbox, before }
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let all = [&["run", "--rm"], arguments].concat();
        let mut running = Running::start(self.sandbox.command(all));
        running.wait_for("ready\n");
        running
    }

    #[track_caller]
    fn is_as_before(&self) {
        assert_eq!(Snapshot::of(self.folder.path()), self.before);
    }
}

const READY_AND_WAIT: [&str; 4] = ["busybox", "sh", "-c", "echo ready; exec sleep 1000"];

#[test]
fn nothing_is_left_behind() {
    let home = Home::new();
    home.sandbox.hyperrun(["run", "--rm", "busybox", "touch", "/file"]).code_is(0);
    home.is_as_before();
}

#[test]
fn a_killed_supervisor_is_told_and_leaves_nothing() {
    let home = Home::new();
    let running = home.start(&READY_AND_WAIT);
    running.kill_supervisor();
    running.finish().code_is(125).stderr_has("error: ").stderr_has("supervisor");
    home.is_as_before();
}

#[test]
fn a_container_outlives_the_command_line() {
    let home = Home::new();
    let mut running = home.start(&READY_AND_WAIT);
    running.kill();
    home.sandbox.hyperrun(["ps", "--format", "{{.State}}"]).code_is(0).stdout_is("running\n");
    home.sandbox.remove_containers();
    running.finish().code_is(137);
    home.is_as_before();
}

#[test]
fn what_the_shell_has_open_is_not_kept_open() {
    let home = Home::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut run = home.sandbox.command([&["run", "--rm"], &READY_AND_WAIT[..]].concat());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec 9>\"$0\"; exec \"$@\""]).arg(file.path());
    shell.arg(run.get_program()).args(run.get_args());
    shell.envs(environment_of(&run));
    run = shell;
    let mut running = Running::start(run);
    running.wait_for("ready\n");
    let open = running.open_below();
    assert!(!open.is_empty() && !open.iter().any(|path| path == file.path()), "{open:?}");
    home.sandbox.remove_containers();
    running.finish().code_is(137);
}

#[test]
fn a_name_is_given_once() {
    let home = Home::new();
    let running = home.start(&[&["--name", "magpie"], &READY_AND_WAIT[..]].concat());
    home.sandbox
        .hyperrun(["run", "--rm", "--name", "magpie", "busybox", "true"])
        .fails_with(125, "magpie");
    home.sandbox.remove_containers();
    running.finish();
    home.sandbox.hyperrun(["run", "--rm", "--name", "magpie", "busybox", "true"]).code_is(0);
    home.is_as_before();
}

/// A machine that starts the program `init` instead of the agent.
fn run_with_init(init: &str) -> hyperrun_tests::Output {
    let file = initramfs(init);
    Sandbox::with_images()
        .env("HYPERRUN_AGENT", file.path().to_str().unwrap())
        .env("HYPERRUN_BOOT_TIMEOUT", "8")
        .hyperrun(["run", "--rm", "busybox", "true"])
}

#[test]
fn a_guest_that_panics_shows_its_last_words() {
    run_with_init("exit 3")
        .fails_with(125, "the guest's kernel panicked")
        .stderr_has("Attempted to kill init! exitcode=0x00000300");
}

#[test]
fn a_guest_that_never_answers_is_given_up() {
    run_with_init("exec /bin/busybox sleep 1000")
        .fails_with(125, "did not get ready within 8 s")
        .stderr_has("hint: ");
}

#[test]
fn a_guest_that_ends_too_early_is_told() {
    run_with_init("exec /bin/busybox poweroff -f").fails_with(125, "before its program had ended");
}

#[test]
fn a_full_disk_is_the_programs_error() {
    let disk = SmallDisk::new(24);
    // A template might leave no room for anything else.
    let sandbox = Sandbox::with_busybox(disk.path());
    sandbox.hyperrun(["run", "--rm", "--no-template", "busybox", "true"]).code_is(0);
    let before = Snapshot::of(disk.path());
    let script = "dd if=/dev/zero of=/large bs=1M count=64 conv=fsync 2>&1 || echo 'it failed'";
    sandbox
        .hyperrun(["run", "--rm", "--no-template", "busybox", "sh", "-c", script])
        .code_is(0)
        .stdout_has("it failed");
    assert_eq!(Snapshot::of(disk.path()), before);
}
