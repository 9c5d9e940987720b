//! A container's life through Docker's commands: created, started, looked at, stopped, removed.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::Command;

use hyperrun_tests::{Running, Terminal};
use rustix::process::Signal;

use crate::home::Home;

/// A program that ends when it is asked to.
const OBEDIENT: &str =
    "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 1000 & wait; done";
/// One that does not.
const STUBBORN: &str = "trap '' TERM; echo ready; sleep 1000 & wait";

/// Whether the guest had to go through its disk's journal.
fn mounted_after_a_crash(home: &Home, name: &str) -> bool {
    let log = home.sandbox.does(&format!("logs --kernel {name}"));
    log.stdout_has("mounted filesystem").stdout.contains(": recovery complete")
}

#[test]
fn a_container_is_created_started_and_started_again() {
    let home = Home::new();
    let script = "echo once >> /count; wc -l < /count; exit 5";
    let created = home.sandbox.hyperrun(["create", "--name", "job", "busybox", "sh", "-c", script]);
    let id = created.code_is(0).stdout.trim().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    home.shows(
        "job",
        "{{.State.Status}} {{.State.Running}} {{.Id}}",
        &format!("created false {id}"),
    );
    home.sandbox.does("ps -q").stdout_is("");
    home.sandbox.does("ps -aq").stdout_is(&format!("{}\n", &id[..12]));
    for times in 1..=3 {
        let out = home.sandbox.hyperrun(["start", "-a", "job"]);
        out.code_is(5).stdout_is(&format!("{times}\n"));
        home.shows("job", "{{.State.Status}} {{.State.ExitCode}}", "exited 5");
    }
    home.sandbox.does("logs job").stdout_is("1\n2\n3\n");
    home.sandbox.does(&format!("rm {}", &id[..6])).stdout_is(&format!("{}\n", &id[..6]));
    home.fails("inspect job", 1, "no such object: job");
    home.fails("start job", 1, "no such container: job");
    let left = std::fs::read_dir(home.folder.path().join("containers")).unwrap();
    assert_eq!(left.count(), 1, "the register's lock alone");
}

#[test]
fn a_detached_container_runs_and_is_stopped() {
    let home = Home::new();
    home.runs("web", OBEDIENT);
    home.shows("web", "{{.State.Status}} {{.Name}} {{.Config.Image}}", "running /web busybox");
    home.sandbox
        .does("ps --format {{.Names}}:{{.State}}:{{.Image}}")
        .stdout_is("web:running:busybox\n");
    home.sandbox.does("ps").stdout_has("CONTAINER ID").stdout_has("Up ").stdout_has("web");
    home.sandbox.does("stop web").stdout_is("web\n");
    home.shows("web", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}", "exited 3 0");
    home.sandbox.does("logs web").stdout_is("ready\nbye\n");
    home.sandbox.does("ps -a").stdout_has("Exited (3) ");
    home.sandbox.does("stop web");
    home.fails("kill web", 1, "container web is not running");
    home.sandbox.does("wait web").stdout_is("3\n");
    home.sandbox.does("start web").stdout_is("web\n");
    assert!(!mounted_after_a_crash(&home, "web"));
    home.shows("web", "{{.State.Running}}", "true");
    home.sandbox.does("start web");
    home.fails("rm web", 1, "container web is running");
    home.sandbox.does("rm -f web");
    home.sandbox.does("ps -aq").stdout_is("");
}

#[test]
fn what_is_written_last_is_there_when_a_stopped_one_is_started_again() {
    let home = Home::new();
    let script = "if [ -e /last ]; then yes | head -c 4000000 | cmp - /last && wc -c /last; exit; fi; \
                  trap 'yes | head -c 4000000 >/last; exit 7' TERM; \
                  echo ready; while :; do sleep 1000 & wait; done";
    home.runs("writer", script);
    home.sandbox.does("stop -t 100 writer").stdout_is("writer\n");
    home.shows("writer", "{{.State.Status}} {{.State.ExitCode}}", "exited 7");
    // At once: nothing of the machine that is gone is in the way.
    home.sandbox.does("start -a writer").code_is(0).stdout_is("4000000 /last\n");
}

#[test]
fn whoever_does_not_end_is_killed() {
    let home = Home::new();
    home.runs("stubborn", STUBBORN);
    home.sandbox.does("stop -t 1 stubborn");
    home.shows("stubborn", "{{.State.ExitCode}}", "137");
    home.sandbox.does("start stubborn");
    home.sandbox.does("kill stubborn").stdout_is("stubborn\n");
    home.shows("stubborn", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    home.runs(
        "usr",
        "trap 'echo usr; exit 4' USR1; echo ready; while :; do sleep 1000 & wait; done",
    );
    home.sandbox.does("kill -s USR1 usr");
    home.sandbox.does("wait usr").stdout_is("4\n");
}

#[test]
fn wait_tells_the_end_of_one_that_runs() {
    let home = Home::new();
    home.runs("job", "echo ready; sleep 1000; exit 9");
    let waiter = Running::start(home.sandbox.command(["wait", "job"]));
    home.sandbox.does("kill job");
    waiter.finish_alone().code_is(0).stdout_is("137\n");
}

#[test]
fn a_program_that_cannot_start_leaves_a_container_that_says_why() {
    let home = Home::new();
    for flags in [&["run", "-d"][..], &["run"]] {
        let words = [flags, &["--name", "none", "busybox", "no-such-program"]].concat();
        home.sandbox.hyperrun(words).fails_with(127, "no-such-program");
        home.shows("none", "{{.State.Status}} {{.State.ExitCode}}", "created 127");
        let error = home.sandbox.does("inspect -f {{.State.Error}} none");
        error.stdout_has("executable file not found in $PATH");
        home.sandbox.does("rm none");
    }
    home.sandbox.hyperrun(["run", "-d", "--rm", "busybox", "/etc"]).fails_with(126, "/etc");
    home.sandbox.does("ps -aq").stdout_is("");
}

#[test]
fn one_that_is_removed_at_its_end_leaves_nothing() {
    let home = Home::new();
    let words = ["run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000"];
    home.sandbox.hyperrun(words).code_is(0);
    home.fails("restart brief", 1, "is removed when it ends");
    home.sandbox.does("stop -t 0 brief");
    home.sandbox.does("ps -aq").stdout_is("");
    assert!(!home.folder.path().join("containers").join("brief").exists());
}

#[test]
fn a_killed_supervisor_is_found_out_and_the_disk_kept() {
    let home = Home::new();
    home.runs("victim", "echo ready; echo kept > /file; sync; echo synced; sleep 1000");
    let mut follower = Running::start(home.sandbox.command(["logs", "-f", "victim"]));
    follower.wait_for("synced\n");
    Command::new("kill").args(["-9", &home.supervisor("victim")]).status().unwrap();
    follower.finish_alone().code_is(0);
    let out = home.sandbox.hyperrun(["ps", "-a", "--format", "{{.Status}}"]);
    out.code_is(0).stdout_has("Exited (255) ").stderr_has("supervisor was killed");
    home.sandbox.does("ps -a").stderr_is("");
    assert!(home.sandbox.does("inspect -f {{.State.Error}} victim").stdout.contains("was killed"));
    let folder = home.folder_of("victim");
    assert!(!folder.join("control.sock").exists() && !folder.join("vsock.sock").exists());
    home.sandbox.does("start victim");
    let mut follower = Running::start(home.sandbox.command(["logs", "-f", "victim"]));
    follower.wait_for("synced\nready\n");
    follower.kill();
    assert!(mounted_after_a_crash(&home, "victim"));
}

#[test]
fn those_who_attach_see_what_is_written_and_may_leave() {
    let home = Home::new();
    home.runs("talker", "trap 'echo said' USR1; echo ready; while :; do sleep 1000 & wait; done");
    let mut first = Running::start(home.sandbox.command(["attach", "talker"]));
    let mut second = Running::start(home.sandbox.command(["attach", "talker"]));
    // Whoever is attached already sees it; nobody knows when that is, so it is said again and again.
    let saying = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while saying.load(std::sync::atomic::Ordering::Relaxed) {
                home.sandbox.does("kill -s USR1 talker");
            }
        });
        first.wait_for("said\n");
        first.kill();
        second.wait_for("said\n");
        saying.store(false, std::sync::atomic::Ordering::Relaxed);
    });
    home.shows("talker", "{{.State.Status}}", "running");
    home.sandbox.does("kill talker");
    second.finish_alone().code_is(137);
}

#[test]
fn a_signal_may_be_the_command_lines_alone_and_patience_the_containers_own() {
    let home = Home::new();
    // Within the ten seconds that are usual it would end by itself.
    let script = "trap 'echo heard; sleep 8; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let flags = ["run", "--name", "deaf", "--sig-proxy=false", "--stop-timeout", "0"];
    let words = [&flags[..], &["busybox", "sh", "-c", script]].concat();
    let mut run = Running::start(home.sandbox.command(words));
    run.wait_for("ready\n");
    run.signal(Signal::TERM);
    run.finish_alone().code_is(143);
    home.shows("deaf", "{{.State.Status}} {{.Config.StopTimeout}}", "running 0");
    home.sandbox.does("logs deaf").stdout_is("ready\n");
    home.sandbox.does("stop deaf").stdout_is("deaf\n");
    home.shows("deaf", "{{.State.ExitCode}}", "137");
}

#[test]
fn a_terminal_that_stands_still_holds_nobody_else_up() {
    // More than a terminal takes, and less than is held for whoever is attached.
    let script = "until [ -e /go ]; do :; done; head -c 200000 /dev/zero | tr '\\0' x; \
                  until [ -e /more ]; do :; done; while :; do echo more; done";
    for log in ["json-file", "none"] {
        let home = Home::new();
        let words = ["run", "-d", "--name", "one", "--log-driver", log, "busybox"];
        home.sandbox.hyperrun([&words[..], &["sh", "-c", script]].concat()).code_is(0);
        // Nobody looks at this terminal any more once it has shown something.
        let mut terminal = Terminal::start(&home.sandbox.command(["attach", "one"]), 24, 80);
        home.sandbox.does("exec one touch /go");
        terminal.wait_for("x");
        home.sandbox.does("exec one touch /more");
        home.sandbox.does("exec one true");
        home.sandbox.does("kill one").stdout_is("one\n");
        home.shows("one", "{{.State.ExitCode}}:{{.State.Error}}", "137:");
    }
}

#[test]
fn a_terminal_is_left_and_taken_again() {
    let home = Home::new();
    let command = home.sandbox.command(["run", "-it", "--name", "shell", "busybox", "sh"]);
    let mut terminal = Terminal::start(&command, 30, 101);
    terminal.wait_for("# ");
    terminal.send("echo fir''st\n");
    terminal.wait_for("first\r\n");
    terminal.send("\x10\x11");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_restored());
    home.shows("shell", "{{.State.Status}}", "running");
    let mut terminal = Terminal::start(&home.sandbox.command(["attach", "shell"]), 40, 120);
    terminal.send("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo sec''ond\n");
    terminal.wait_for("second\r\n");
    terminal.send("exit 6\n");
    assert_eq!(terminal.wait(), 6);
    assert!(terminal.is_restored());
    home.shows("shell", "{{.State.Status}} {{.State.ExitCode}}", "exited 6");
}

#[test]
fn the_id_is_written_down() {
    let home = Home::new();
    let file = home.folder.path().join("id");
    let path = file.to_str().unwrap();
    let id = home.sandbox.does(&format!("run -d --rm --cidfile {path} busybox sleep 1000")).stdout;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id.trim());
    home.fails(&format!("run --cidfile {path} busybox true"), 125, "container ID file found");
}
