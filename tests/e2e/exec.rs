//! More programs in a container that runs, and what else it can be asked.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use hyperrun_tests::{Output, Running, Sandbox, Terminal};

/// A container named `web` that waits, in a state folder of its own.
struct Home {
    /// Removed last.
    _folder: tempfile::TempDir,
    sandbox: Sandbox,
}

impl Home {
    fn new(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::beside_others(folder.path());
        let words = ["--name", "web", "busybox", "sleep", "1000"];
        sandbox.hyperrun([&["run", "-d"], flags, &words].concat()).code_is(0);
        Self { _folder: folder, sandbox }
    }

    fn exec(&self, words: &[&str]) -> Output {
        self.sandbox.hyperrun([&["exec"], words].concat())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.sandbox.hyperrun(["rm", "-f", "web"]);
    }
}

#[test]
fn an_exec_has_streams_and_an_exit_status_of_its_own() {
    let home = Home::new(&["-e", "COLOUR=green", "-w", "/tmp"]);
    home.exec(&["web", "sh", "-c", "echo out; echo err >&2; exit 4"])
        .code_is(4)
        .stdout_is("out\n")
        .stderr_is("err\n");
    home.exec(&["web", "sh", "-c", "echo $COLOUR $PWD; id -u"]).stdout_is("green /tmp\n0\n");
    home.exec(&[
        "-e",
        "COLOUR=red",
        "-w",
        "/",
        "-u",
        "7:8",
        "web",
        "sh",
        "-c",
        "echo $COLOUR; pwd; id -u; id -g",
    ])
    .stdout_is("red\n/\n7\n8\n");
    home.exec(&["web", "cat"]).code_is(0).stdout_is("");
    home.sandbox
        .hyperrun_with_input(["exec", "-i", "web", "cat"], b"hello\n")
        .code_is(0)
        .stdout_is("hello\n");
    home.exec(&["web", "sh", "-c", "kill -9 $$"]).code_is(137);
    home.exec(&["web", "no-such-program"]).fails_with(127, "no-such-program");
    home.exec(&["web", "/etc"]).fails_with(126, "/etc");
    home.exec(&["-d", "web", "sh", "-c", "echo made > /made"]).code_is(0).stdout_is("");
    home.exec(&["web", "sh", "-c", "until [ -s /made ]; do :; done; cat /made"])
        .stdout_is("made\n");
    // Nothing of it is in the container's log, and its end ends nothing.
    home.sandbox.hyperrun(["logs", "web"]).stdout_is("").stderr_is("");
    home.sandbox.hyperrun(["ps", "--format", "{{.State}}"]).stdout_is("running\n");
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    let home = Home::new(&[]);
    let command = home.sandbox.command(["exec", "-it", "web", "sh"]);
    let mut terminal = Terminal::start(&command, 30, 101);
    terminal.wait_for("# ");
    terminal.send("stty size; echo $TERM\n");
    terminal.wait_for("30 101\r\nxterm\r\n");
    terminal.resize(40, 120);
    terminal.send("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo re''sized\n");
    terminal.wait_for("resized");
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait(), 5);
    assert!(terminal.is_restored());
}

#[test]
fn a_halted_container_does_nothing_until_it_goes_on() {
    let home = Home::new(&[]);
    home.sandbox.hyperrun(["unpause", "web"]).fails_with(1, "it is not paused");
    home.sandbox.hyperrun(["pause", "web"]).code_is(0).stdout_is("web\n");
    home.sandbox.hyperrun(["pause", "web"]).fails_with(1, "it is already paused");
    home.sandbox.hyperrun(["ps"]).stdout_has("(Paused)");
    home.exec(&["web", "true"]).fails_with(1, "paused");
    home.sandbox.hyperrun(["attach", "web"]).fails_with(1, "paused");
    home.sandbox.hyperrun(["unpause", "web"]).code_is(0).stdout_is("web\n");
    home.exec(&["web", "true"]).code_is(0);
    home.sandbox.hyperrun(["pause", "web"]).code_is(0);
    home.sandbox.hyperrun(["kill", "web"]).code_is(0);
    home.exec(&["web", "true"]).fails_with(1, "container web is not running");
    home.sandbox.hyperrun(["top", "web"]).fails_with(1, "container web is not running");
}

#[test]
fn a_process_whose_output_nobody_takes_ends_with_its_container() {
    let home = Home::new(&[]);
    let mut flood = Running::start(home.sandbox.command(["exec", "web", "yes", "flood"]));
    flood.wait_for("flood\nflood\n");
    home.sandbox.does("kill web");
    home.sandbox.does("inspect -f {{.State.ExitCode}}:{{.State.Error}} web").stdout_is("137:\n");
    flood.kill();
}

#[test]
fn processes_and_use_are_shown() {
    let home = Home::new(&[]);
    let top = home.sandbox.hyperrun(["top", "web"]);
    top.code_is(0).stdout_has("UID").stdout_has("root").stdout_has("sleep 1000");
    let stats = home.sandbox.hyperrun(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]);
    stats.code_is(0).stdout_is("web 1\n");
    let usage = home.sandbox.hyperrun(["stats", "--no-stream", "--format", "{{.MemUsage}}"]);
    assert!(usage.stdout.contains("MiB / ") || usage.stdout.contains("KiB / "), "{}", usage.stdout);
}
