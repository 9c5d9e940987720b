//! Containers on a real terminal.

use hyperrun_tests::{Sandbox, Terminal};
use rustix::process::Signal;

fn bash() -> Terminal {
    let command = Sandbox::with_images().command(["run", "--rm", "-it", "debian:bookworm", "bash"]);
    Terminal::start(&command, 30, 101)
}

#[test]
fn bash_has_job_control_and_the_windows_size() {
    let mut terminal = bash();
    terminal.wait_for("# ");
    terminal.send("stty size; echo $TERM\n");
    terminal.wait_for("30 101\r\nxterm\r\n");
    terminal.resize(40, 120);
    terminal.send("stty size\n");
    terminal.wait_for("40 120\r\n");
    terminal.send("sleep 1000 &\n");
    terminal.wait_for("[1] ");
    terminal.send("jobs; kill %1; wait %1\n");
    terminal.wait_for("Running");
    terminal.wait_for("Terminated");
    terminal.send("cat\n");
    terminal.send("held\n");
    terminal.wait_for("held\r\nheld");
    terminal.send("\x03");
    terminal.wait_for("^C");
    terminal.send("echo status $?\n");
    terminal.wait_for("status 130");
    terminal.send("\x04");
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
fn the_terminal_is_restored_when_hyperrun_is_killed_by_a_signal() {
    let mut terminal = bash();
    terminal.wait_for("# ");
    terminal.signal(Signal::TERM);
    terminal.send("exit 3\n");
    terminal.wait();
    assert!(terminal.is_restored());
}
