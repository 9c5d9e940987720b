//! Restart policies: what is started again, when that ends, and what a reboot makes of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::Command;

use hyperrun_tests::Running;

use crate::home::Home;

/// Says how often it has run, on the disk that all its lives share.
const COUNTING: &str = "echo once >> /count; wc -l < /count";

impl Home {
    /// A container in the background with a restart policy.
    #[track_caller]
    fn restarts(&self, name: &str, policy: &str, script: &str) {
        let words = ["run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c"];
        self.sandbox.hyperrun([&words[..], &[script]].concat()).code_is(0);
    }

    #[track_caller]
    fn state(&self, name: &str) -> String {
        let out = self.sandbox.does(&format!("inspect -f {{{{.State.Status}}}} {name}"));
        out.stdout.trim().to_owned()
    }

    /// Waits until a container is in this state.
    #[track_caller]
    fn comes_to(&self, name: &str, wanted: &str) {
        while self.state(name) != wanted {}
    }

    #[track_caller]
    fn count(&self, name: &str) -> u32 {
        let out = self.sandbox.does(&format!("inspect -f {{{{.RestartCount}}}} {name}"));
        out.stdout.trim().parse().unwrap()
    }

    /// Nobody has started it again, or the events tell why.
    #[track_caller]
    fn has_one_life(&self, name: &str) {
        let events = self.sandbox.does("events --since 1h --until 0s").stdout;
        assert_eq!(self.count(name), 0, "{events}");
    }

    /// Kills the process that looks after a container.
    fn loses_supervisor(&self, name: &str) {
        Command::new("kill").args(["-9", &self.supervisor(name)]).status().unwrap();
    }
}

#[test]
fn what_fails_is_started_again_as_often_as_it_may() {
    let home = Home::new();
    home.restarts("job", "on-failure:2", &format!("{COUNTING}; exit 3"));
    home.comes_to("job", "exited");
    home.shows("job", "{{.RestartCount}} {{.State.ExitCode}} {{.State.Restarting}}", "2 3 false");
    home.sandbox.does("logs job").stdout_is("1\n2\n3\n");
    home.sandbox.does("ps -a --format {{.Status}}").stdout_has("Exited (3) ");
    // By hand it begins to count anew.
    home.sandbox.does("start job");
    home.comes_to("job", "exited");
    home.sandbox.does("logs job").stdout_is("1\n2\n3\n4\n5\n6\n");
    assert_eq!(home.count("job"), 2);
}

#[test]
fn what_ends_well_has_not_failed() {
    let home = Home::new();
    home.restarts("job", "on-failure", "echo well");
    home.comes_to("job", "exited");
    home.shows("job", "{{.RestartCount}} {{.State.ExitCode}}", "0 0");
}

#[test]
fn whoever_is_attached_sees_one_life() {
    let home = Home::new();
    let script = format!("{COUNTING}; exit 4");
    let words = ["run", "--name", "loop", "--restart", "always", "busybox", "sh", "-c", &script];
    home.sandbox.hyperrun(words).code_is(4).stdout_is("1\n");
    let mut follower = Running::start(home.sandbox.command(["logs", "-f", "loop"]));
    follower.wait_for("1\n");
    follower.kill();
    while home.count("loop") < 2 {}
    home.sandbox.does("ps --format {{.Names}}").stdout_is("loop\n");
    assert!(home.sandbox.does("logs loop").stdout.starts_with("1\n2\n"));
}

#[test]
fn a_container_between_two_lives_is_restarting() {
    let home = Home::new();
    home.restarts("loop", "always", "exit 1");
    // The wait doubles: sooner or later it is long enough to be seen.
    while home.count("loop") < 5 {}
    home.comes_to("loop", "restarting");
    home.sandbox.does("ps --format {{.Status}}").stdout_has("Restarting (1) ");
    home.fails("attach loop", 1, "cannot attach to a restarting container");
    home.fails("rm loop", 1, "container loop is restarting");
    home.sandbox.does("stop loop").stdout_is("loop\n");
    home.shows(
        "loop",
        "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}",
        "exited 1 false",
    );
    let count = home.count("loop");
    home.sandbox.does("ps -q").stdout_is("");
    assert_eq!(home.count("loop"), count);
}

#[test]
fn whatever_ends_it_by_hand_ends_it() {
    let home = Home::new();
    let patient = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
    for (name, command) in
        [("one", "stop one"), ("two", "kill two"), ("three", "kill -s TERM three")]
    {
        home.restarts(name, "always", patient);
        home.is_ready(name);
        home.sandbox.does(command);
        home.comes_to(name, "exited");
        home.has_one_life(name);
    }
    for (name, command) in
        [("four", "kill four"), ("five", "kill -s HUP five"), ("six", "rm -f six")]
    {
        home.restarts(name, "unless-stopped", "exit 1");
        while home.count(name) < 4 {}
        home.sandbox.does(command);
        if name != "six" {
            home.comes_to(name, "exited");
        }
    }
    home.sandbox.does("ps -q").stdout_is("");
    home.fails("inspect six", 1, "no such object: six");
    home.restarts("seven", "always", patient);
    home.is_ready("seven");
    home.sandbox.does("restart seven");
    home.shows("seven", "{{.State.Status}} {{.RestartCount}}", "running 0");
}

#[test]
fn wait_tells_the_next_end() {
    let home = Home::new();
    home.restarts("loop", "always", "echo ready; exit 6");
    home.sandbox.does("wait loop").stdout_is("6\n");
    home.sandbox.does("wait loop").stdout_is("6\n");
}

#[test]
fn a_reboot_starts_what_should_run() {
    let home = Home::new();
    let patient = "echo ready; sleep 1000";
    for (name, policy) in [
        ("always", "always"),
        ("always-stopped", "always"),
        ("unless", "unless-stopped"),
        ("unless-stopped", "unless-stopped"),
        ("failure", "on-failure"),
        ("plain", "no"),
    ] {
        home.restarts(name, policy, patient);
    }
    home.restarts("done", "on-failure", "true");
    home.comes_to("done", "exited");
    home.sandbox.does("create --name never --restart always busybox sleep 1000");
    home.sandbox.does("stop -t 0 always-stopped unless-stopped");
    // Nothing of a host outlives its reboot.
    for name in ["always", "unless", "failure", "plain"] {
        home.loses_supervisor(name);
    }
    let out = home.sandbox.does("boot");
    let mut started: Vec<_> = out.stdout.lines().collect();
    started.sort_unstable();
    assert_eq!(started, ["always", "always-stopped", "failure", "unless"]);
    for (name, state) in [
        ("always", "running"),
        ("always-stopped", "running"),
        ("unless", "running"),
        ("unless-stopped", "exited"),
        ("failure", "running"),
        ("plain", "exited"),
        ("done", "exited"),
        ("never", "created"),
    ] {
        assert_eq!(home.state(name), state, "{name}");
    }
    home.sandbox.does("boot").stdout_is("");
}

#[test]
fn a_boot_starts_the_rest_when_one_fails() {
    let home = Home::new();
    for name in ["broken", "whole"] {
        home.restarts(name, "always", "sleep 1000");
        home.loses_supervisor(name);
        home.sandbox.does("ps -a");
    }
    let disk = home.folder_of("broken").join("overlay.img");
    std::fs::remove_file(&disk).unwrap();
    std::fs::create_dir(&disk).unwrap();
    let out = home.sandbox.hyperrun(["boot"]);
    out.code_is(1).stdout_is("whole\n").stderr_has("error: ");
    assert_eq!(home.state("whole"), "running");
}
