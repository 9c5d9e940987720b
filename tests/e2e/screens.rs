//! Programs that draw a screen, on a terminal that has one.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::Command;

use hyperrun_tests::{Running, Sandbox, Tmux, environment_of};

/// A container named `desk` with this program on a screen of 80 by 24.
fn desk(folder: &std::path::Path, program: &[&str]) -> (Sandbox, Tmux) {
    let sandbox = Sandbox::beside_others(folder);
    let words = [&["run", "-it", "--name", "desk", "busybox"], program].concat();
    let tmux = Tmux::start(&sandbox.command(words), 80, 24);
    (sandbox, tmux)
}

/// Whether the screen shows the numbers from 1 on, one in each line but the last.
fn is_full_of_numbers(screen: &[String], rows: usize) -> bool {
    let lines = screen.iter().take(rows - 1);
    screen.len() == rows && lines.zip(1..).all(|(line, number)| line.trim() == number.to_string())
}

#[test]
fn an_editor_draws_itself_anew_when_the_window_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (sandbox, tmux) = desk(folder.path(), &["sh", "-c", "seq 200 >/numbers; exec vi /numbers"]);
    tmux.wait_until(|screen| is_full_of_numbers(screen, 24));
    tmux.resize(100, 40);
    tmux.wait_until(|screen| is_full_of_numbers(screen, 40));
    tmux.resize(60, 12);
    tmux.wait_until(|screen| is_full_of_numbers(screen, 12));
    tmux.send(&["Oedited", "Escape"]);
    let status = |screen: &[String], saved: bool| {
        let line = screen.last().map_or("", String::as_str);
        // In command mode, with the line that was added. What `:w` says lasts until the next drawing only.
        line.starts_with("- /numbers")
            && line.contains(" 1/201 ")
            && line.contains("[Modified]") != saved
            || saved && line.contains("201L")
    };
    tmux.wait_until(|screen| status(screen, false));
    tmux.send(&[":w", "Enter"]);
    tmux.wait_until(|screen| status(screen, true));
    sandbox.does("exec desk head -n 2 /numbers").stdout_is("edited\n1\n");
    tmux.send(&[":q", "Enter"]);
    sandbox.does("wait desk").stdout_is("0\n");
    sandbox.remove_containers();
}

#[test]
fn a_shell_is_left_and_taken_again_with_another_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let (sandbox, tmux) = desk(folder.path(), &["sh"]);
    let types = |tmux: &Tmux, line: &str| tmux.send(&[line, "Enter"]);
    types(&tmux, "n=4; echo fir''st $n");
    tmux.wait_for("first 4");
    tmux.send(&["C-p", "C-q"]);
    tmux.wait_for_end();
    sandbox.does("ps --format {{.Names}}").stdout_is("desk\n");
    let again = Tmux::start(&sandbox.command(["attach", "desk"]), 100, 30);
    let words = ["exec", "-it", "--detach-keys", "ctrl-x,x", "desk", "sh"];
    let beside = Tmux::start(&sandbox.command(words), 60, 20);
    types(&again, "until [ \"$(stty size)\" = '30 100' ]; do :; done; echo sec''ond $n");
    again.wait_for("second 4");
    types(&beside, "until [ \"$(stty size)\" = '20 60' ]; do :; done; tty >/file; echo besi''de");
    beside.wait_for("beside");
    types(&again, "tty; cat /file");
    again.wait_for("/dev/pts/0");
    again.wait_for("/dev/pts/1");
    beside.resize(70, 25);
    types(&beside, "until [ \"$(stty size)\" = '25 70' ]; do :; done; echo resi''zed");
    beside.wait_for("resized");
    // The keys are those of either, and may be others.
    beside.send(&["C-x", "x"]);
    beside.wait_for_end();
    types(&again, "exit 6");
    again.wait_for_end();
    sandbox.does("wait desk").stdout_is("6\n");
    sandbox.remove_containers();
}

/// Runs a program, and says how it has ended and whether it has left the terminal as it was.
const JUDGE: &str = "trap : INT; before=$(stty -g); \"$@\"; code=$?; echo; after=$(stty -g); \
    [ \"$before\" = \"$after\" ] && echo \"ended $code, restored\"; exec sleep 1000";

/// Whether the screen shows one table of what containers use, of these and no others.
fn is_table_of(screen: &[String], names: &[&str]) -> bool {
    let mut lines = screen.iter().map(|line| line.split_whitespace());
    let has_head = lines.next().is_some_and(|mut head| head.next() == Some("CONTAINER"));
    let shown = lines.filter_map(|mut words| Some((words.next()?, words.next()?)));
    has_head && shown.map(|(_, name)| name).eq(names.iter().copied())
}

#[test]
fn a_table_of_what_containers_use_is_kept_true_until_it_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::beside_others(folder.path());
    sandbox.does("run -d --name one busybox sleep 1000");
    let stats = sandbox.command(["stats"]);
    let mut judged = Command::new("sh");
    judged.args(["-c", JUDGE, "sh"]).arg(stats.get_program()).args(stats.get_args());
    judged.envs(environment_of(&stats));
    let tmux = Tmux::start(&judged, 120, 24);
    tmux.wait_until(|screen| is_table_of(screen, &["one"]));
    sandbox.does("run -d --name two busybox sleep 1000");
    tmux.wait_until(|screen| is_table_of(screen, &["two", "one"]));
    // Where there is no screen, table follows table; with the last of those that are named it is over.
    let mut named = Running::start(sandbox.command(["stats", "--format", "{{.Name}}", "one"]));
    named.wait_for("one\none\n");
    sandbox.does("rm -f one");
    named.finish_alone().code_is(0);
    tmux.wait_until(|screen| is_table_of(screen, &["two"]));
    tmux.send(&["C-c"]);
    tmux.wait_for("ended 130, restored");
    sandbox.remove_containers();
}

#[test]
#[ignore = "takes long: the soak runs it"]
fn twenty_run_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_busybox(folder.path());
    let words = ["run", "--rm", "-m", "64m", "busybox", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut all: Vec<Running> = Vec::new();
    for _ in 0..20 {
        let mut one = Running::start(sandbox.command(words));
        one.wait_for("ready\n");
        all.push(one);
    }
    assert_eq!(sandbox.does("ps -q").stdout.lines().count(), 20);
    for id in sandbox.does("ps -q").stdout.lines() {
        sandbox.does(&format!("exec {id} echo here")).stdout_is("here\n");
    }
    sandbox.remove_containers();
    for one in all {
        one.finish_alone().code_is(137);
    }
}
