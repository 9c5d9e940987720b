//! Guests that die or hang under a running container: it is told, and can be ended.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;

use hyperrun_tests::{Running, Sandbox};
use rustix::process::{Pid, Signal, kill_process};

/// A container named `guest` that waits.
fn guest(folder: &Path) -> Sandbox {
    let sandbox = Sandbox::beside_others(folder);
    sandbox.does("run -d --name guest busybox sleep 1000");
    sandbox
}

/// Sends its machine a signal.
fn signal_machine(sandbox: &Sandbox, signal: Signal) {
    let supervisor = sandbox.does("inspect -f {{.State.Pid}} guest").stdout.trim().to_owned();
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let machine = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(machine).unwrap(), signal).unwrap();
}

#[test]
fn a_machine_that_is_killed_is_told_and_its_container_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = guest(folder.path());
    let waiter = Running::start(sandbox.command(["wait", "guest"]));
    signal_machine(&sandbox, Signal::KILL);
    waiter.finish_alone().code_is(0).stdout_is("125\n");
    sandbox.does("ps -a --format {{.Status}}").stdout_has("Exited (125) ");
    assert!(!sandbox.does("inspect -f {{.State.Error}} guest").stdout.trim().is_empty());
    sandbox.hyperrun(["exec", "guest", "true"]).fails_with(1, "is not running");
    sandbox.does("start guest");
    sandbox.does("exec guest echo back").stdout_is("back\n");
    sandbox.remove_containers();
}

#[test]
#[ignore = "takes long: the soak runs it"]
fn a_guest_that_hangs_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = guest(folder.path());
    signal_machine(&sandbox, Signal::STOP);
    let mut exec = Running::start(sandbox.command(["exec", "guest", "true"]));
    let begun = "events --since 1h --until 0s --filter event=exec_create";
    while sandbox.does(begun).stdout.is_empty() {}
    // The supervisor has done what it can about the exec, and has time for others.
    sandbox.does("kill -s WINCH guest");
    sandbox.does("kill -s WINCH guest");
    assert!(!exec.has_ended(), "it waits for the guest's answer");
    exec.finish_alone().fails_with(1, "the agent in the guest did not answer within 10 s");
    sandbox.does("ps --format {{.Names}}").stdout_is("guest\n");
    sandbox.does("stop -t 0 guest").stdout_is("guest\n");
    sandbox
        .does("inspect -f {{.State.Status}}:{{.State.ExitCode}} guest")
        .stdout_is("exited:137\n");
    sandbox.does("start guest");
    sandbox.does("exec guest echo back").stdout_is("back\n");
    sandbox.remove_containers();
}
