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

/// Whatever needs a word of the guest's, and those that go without.
const NEEDY: [&str; 7] = [
    "exec guest true",
    "top guest",
    "pause guest",
    "update -m 100m guest",
    "logs --kernel guest",
    "cp guest:/etc/passwd -",
    "diff guest",
];

#[test]
#[ignore = "takes long: the soak runs it"]
fn a_guest_that_hangs_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    // As long as a process may take to begin.
    let sandbox = Sandbox::beside_others(folder.path()).env("HYPERRUN_BOOT_TIMEOUT", "20");
    let script = "echo ready; exec sleep 1000";
    sandbox.hyperrun(["run", "-d", "--name", "guest", "busybox", "sh", "-c", script]).code_is(0);
    let mut follower = Running::start(sandbox.command(["logs", "-f", "guest"]));
    follower.wait_for("ready\n");
    signal_machine(&sandbox, Signal::STOP);
    let needy = NEEDY.map(|words| Running::start(sandbox.command(words.split(' '))));
    let detached = Running::start(sandbox.command(["exec", "-d", "guest", "true"]));
    let stats = Running::start(sandbox.command(["stats", "--no-stream"]));
    let begun = "events --since 1h --until 0s --filter event=exec_create --format x";
    while sandbox.does(begun).stdout.lines().count() < 2 {}
    // The supervisor has done what it can about them, and has time for others.
    sandbox.does("kill -s WINCH guest");
    sandbox.does("logs guest").stdout_is("ready\n");
    sandbox.does("ps --format {{.Names}}:{{.State}}").stdout_is("guest:running\n");
    sandbox.does("inspect -f {{.State.Status}} guest").stdout_is("running\n");
    for one in needy {
        one.finish_alone().fails_with(1, "the agent in the guest did not answer within 10 s");
    }
    detached.finish_alone().fails_with(1, "did not start within 20 s");
    stats.finish_alone().code_is(0).stdout_has("guest").stdout_has("--");
    sandbox.does("stop -t 0 guest").stdout_is("guest\n");
    sandbox
        .does("inspect -f {{.State.Status}}:{{.State.ExitCode}} guest")
        .stdout_is("exited:137\n");
    follower.finish_alone().code_is(0).stdout_is("ready\n");
    for (deed, left) in [("kill guest", "exited:guest\n"), ("rm -f guest", "")] {
        sandbox.does("start guest");
        sandbox.does("exec guest echo back").stdout_is("back\n");
        signal_machine(&sandbox, Signal::STOP);
        sandbox.does(deed).stdout_is("guest\n");
        let format = "{{.State}}:{{.Names}}";
        sandbox.does(&format!("ps -a --format {format}")).stdout_is(left);
    }
}

/// Programs that never rest, more than there are processors.
const GREEDY: &str = "for one in $(seq 8); do while :; do :; done & done; echo ready; wait";

#[test]
#[ignore = "takes long: the soak runs it"]
fn a_program_that_takes_the_whole_processor_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::beside_others(folder.path());
    let run = ["run", "-d", "--name", "guest", "busybox", "sh", "-c", GREEDY];
    sandbox.hyperrun(run).code_is(0);
    let mut follower = Running::start(sandbox.command(["logs", "-f", "guest"]));
    follower.wait_for("ready\n");
    sandbox.does("exec guest echo here").stdout_is("here\n");
    sandbox.does("top guest -o args").stdout_has("while :");
    sandbox.does("cp guest:/etc/hostname -").stdout_has("hostname");
    sandbox.does("stop -t 0 guest").stdout_is("guest\n");
    follower.finish_alone().code_is(0).stdout_is("ready\n");
    sandbox
        .does("inspect -f {{.State.Status}}:{{.State.ExitCode}} guest")
        .stdout_is("exited:137\n");
    sandbox.remove_containers();
}
