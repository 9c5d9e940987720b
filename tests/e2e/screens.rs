//! Programs that draw a screen, on a terminal that has one.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use hyperrun_tests::{Running, Sandbox, Tmux};

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
    tmux.wait_until(|screen| screen.last().is_some_and(|line| line.starts_with("- ")));
    tmux.send(&[":w", "Enter"]);
    tmux.wait_until(|screen| screen.iter().any(|line| line.contains("201L")));
    sandbox.does("exec desk head -n 2 /numbers").stdout_is("edited\n1\n");
    tmux.send(&[":q", "Enter"]);
    sandbox.does("wait desk").stdout_is("0\n");
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
