//! Containers on a real terminal.

use hyperrun_tests::{Sandbox, Terminal};
use rustix::process::Signal;

fn debian(script: &[&str]) -> Terminal {
    let arguments = [&["run", "--rm", "-it", "debian:bookworm"], script].concat();
    Terminal::start(&Sandbox::with_images().command(arguments), 30, 101)
}

/// A prompt, which comes again after each command.
const PROMPT: &str = "# ";

// Words that are to be seen in a program's output are typed with quotes in them, so that the echo of
// what was typed is not mistaken for it.

#[test]
fn bash_has_the_windows_size_at_once_and_when_it_changes() {
    let mut terminal = debian(&["bash"]);
    terminal.wait_for(PROMPT);
    terminal.send("stty size; echo $TERM\n");
    terminal.wait_for("30 101\r\nxterm\r\n");
    terminal.resize(40, 120);
    terminal.send("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo re''sized\n");
    terminal.wait_for("resized");
    terminal.wait_for(PROMPT);
    terminal.send("\x04");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_restored());
}

#[test]
fn bash_has_job_control() {
    let mut terminal = debian(&["bash"]);
    terminal.wait_for(PROMPT);
    terminal.send("sleep 1000 &\n");
    terminal.wait_for("[1] ");
    terminal.send("jobs; kill %1; wait %1\n");
    terminal.wait_for("Running");
    terminal.wait_for("Terminated");
    terminal.wait_for(PROMPT);
    // A program that bash starts itself, and that shows that it runs: `sh` makes its children by
    // vfork(2), and a child that is stopped before its exec stops its parent for good.
    terminal.send("sed -u s/o/0/\n");
    terminal.wait_for("0/\r\n");
    terminal.send("go\n");
    terminal.wait_for("g0\r\n");
    terminal.send("\x1a");
    terminal.wait_for("Stopped");
    terminal.wait_for(PROMPT);
    terminal.send("fg\n");
    terminal.wait_for("0/\r\n");
    terminal.send("on\n");
    terminal.wait_for("0n\r\n");
    terminal.send("\x03");
    terminal.wait_for("^C");
    terminal.wait_for(PROMPT);
    terminal.send("exit $?\n");
    assert_eq!(terminal.wait(), 130);
    assert!(terminal.is_restored());
}

#[test]
fn a_terminal_needs_a_terminal() {
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "-it", "busybox", "true"])
        .code_is(1)
        .stderr_has("the input device is not a TTY");
}

#[test]
fn a_program_without_input_has_a_terminal_of_its_own() {
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "-t", "busybox", "sh", "-c", "tty; [ -t 0 ] && stty size"])
        .code_is(0)
        .stdout_is("/dev/pts/0\r\n24 80\r\n");
}

#[test]
fn a_signal_reaches_the_program_and_the_terminal_is_restored() {
    let script = "trap 'exit 9' TERM; echo ready; sleep 1000 & wait";
    let mut terminal = debian(&["bash", "-c", script]);
    terminal.wait_for("ready");
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.wait(), 9);
    assert!(terminal.is_restored());
}
