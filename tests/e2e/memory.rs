//! What a container costs the host in memory, and that it gives back what it does not need.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hyperrun_tests::{Running, Sandbox, sample_size};

/// What belongs to the machine's process alone, and how much of it an idle copy of a template may have.
const PRIVATE: [&str; 2] = ["Private_Clean", "Private_Dirty"];
const MOST_PRIVATE_KIB: u64 = 8 << 10;
/// A guest looks for free memory every 2 seconds, and reports a part of it each time.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// What the program of these tests fills, and so much of it must be seen to come and go.
const FILLED_MIB: u64 = 200;
const SEEN_KIB: u64 = 180 << 10;

/// The command that runs `script` with these flags and a standard input.
fn command(flags: &[&str], script: &str) -> Command {
    let arguments = [&["run", "--rm", "-i"], flags, &["busybox", "sh", "-c", script]].concat();
    Sandbox::with_images().with_templates().command(arguments)
}

/// Waits until the machine has so much less memory than it had at most.
#[track_caller]
fn shrinks(running: &Running) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = running.machine_kib("status", &["VmRSS"]);
        let most = running.machine_kib("status", &["VmHWM"]);
        assert!(most >= SEEN_KIB, "the guest was to fill its memory: {most} KiB");
        if now + SEEN_KIB <= most {
            return;
        }
        assert!(Instant::now() < deadline, "{now} KiB are left of {most}");
        thread::sleep(POLL);
    }
}

/// A command that fills memory of its own, looks whether it is as it was written, and ends.
fn fill() -> String {
    format!(
        "awk 'BEGIN {{ s = sprintf(\"%1048576s\", \"\"); \
         for (i = 0; i < {FILLED_MIB}; i++) a[i] = s i; \
         for (i = 0; i < {FILLED_MIB}; i++) if (a[i] != s i) exit 1 }}'"
    )
}

#[test]
fn what_a_guest_frees_goes_back_to_the_host_and_can_be_had_again() {
    let fill = fill();
    // A guest that has booted does as one that goes on: the soak tries both.
    for flags in [&[][..], &["--no-template"]].into_iter().take(sample_size(2)) {
        let script = format!("{fill} && echo freed && read go && {fill} && echo again");
        let mut running = Running::start_listening(command(flags, &script));
        running.wait_for("freed\n");
        shrinks(&running);
        running.say("go\n");
        running.wait_for("again\n");
        running.finish().code_is(0).stdout_is("freed\nagain\n").stderr_is("");
    }
}

/// A page of the template that a single copy has mapped counts as its own: so there are two.
#[test]
fn an_idle_copy_has_little_for_itself() {
    let script = "echo up; read end; exit 0";
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_busybox(folder.path()).with_templates();
    let command =
        |script: &str| sandbox.command(["run", "--rm", "-i", "busybox", "sh", "-c", script]);
    // The first makes the template, and the next two tell what copies touch: what one of them does with
    // memory is its own.
    for first in ["true", "head -c 60000000 /dev/zero >/dev/shm/filled", "true"] {
        assert!(command(first).stdin(Stdio::null()).status().unwrap().success());
    }
    let mut other = command(script);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");

    let mut running = Running::start_listening(command(script));
    running.wait_for("up\n");
    let private = running.machine_kib("smaps_rollup", &PRIVATE);
    assert!(private <= MOST_PRIVATE_KIB, "{private} KiB");

    assert!(other.wait().unwrap().success(), "its standard input is at its end");
    running.finish().code_is(0).stdout_is("up\n").stderr_is("");
}
