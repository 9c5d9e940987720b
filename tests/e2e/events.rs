//! What `events` tells of a container's life.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use hyperrun_tests::Running;

use crate::home::Home;

impl Home {
    /// What has happened to containers so far.
    #[track_caller]
    fn happened(&self, filter: &str) -> Vec<String> {
        let words = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"];
        let words = [&words[..], &["--filter", "type=container", "--filter", filter]].concat();
        let out = self.sandbox.hyperrun(words);
        out.code_is(0).stderr_is("");
        out.stdout.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_whole_life_is_told() {
    let home = Home::new();
    home.sandbox.does("run --rm --name brief -l kind=x busybox true");
    assert_eq!(home.happened("container=brief"), ["create", "attach", "start", "die", "destroy"]);
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "event=die"];
    let line = home.sandbox.hyperrun(words).stdout;
    assert!(line.contains("Z container die "), "{line}");
    let ends = line.trim_end().ends_with(", exitCode=0, image=busybox, kind=x, name=brief)");
    assert!(ends && line.contains("(execDuration="), "{line}");
    let words = [&words[..], &["--format", "json"]].concat();
    let json = home.sandbox.hyperrun(words).stdout;
    assert!(json.contains("\"Action\":\"die\"") && json.contains("\"from\":\"busybox\""), "{json}");
    home.sandbox.does("events --since 1h --until 0s --filter event=load").stdout_has("image load ");
}

#[test]
fn what_is_done_to_a_container_is_told_as_it_happens() {
    let home = Home::new();
    let mut events = Running::start(home.sandbox.command([
        "events",
        "--since",
        "1h",
        "--filter",
        "type=container",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]));
    home.runs("web", "trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait; done");
    events.wait_for("create web\nstart web\n");
    home.sandbox.does("pause web");
    home.sandbox.does("unpause web");
    events.wait_for("pause web\nunpause web\n");
    home.sandbox.does("exec web true");
    events.wait_for("exec_create: true web\nexec_start: true web\nexec_die web\n");
    let copy = home.folder.path().join("copy");
    home.sandbox.does(&format!("cp web:/etc/passwd {}", copy.display()));
    events.wait_for("archive-path web\n");
    home.sandbox.does("cp /etc/passwd web:/tmp/copy");
    home.sandbox.does("commit -m why web made:1");
    home.sandbox.does("update --pids-limit 77 web");
    events.wait_for("extract-to-dir web\ncommit web\nupdate web\n");
    home.sandbox.does("rename web site");
    home.sandbox.does("kill -s USR1 site");
    events.wait_for("rename site\nkill site\n");
    home.sandbox.does("restart site");
    events.wait_for("kill site\ndie site\nstop site\nstart site\nrestart site\n");
    home.sandbox.does("rm -f site");
    events.wait_for("kill site\ndie site\ndestroy site\n");
    events.kill();
}

#[test]
fn a_death_that_nobody_saw_is_told_by_who_finds_it() {
    let home = Home::new();
    home.runs("victim", "echo ready; sleep 1000");
    let pid = home.supervisor("victim");
    std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    home.sandbox.does("ps -a");
    assert_eq!(home.happened("container=victim"), ["create", "start", "die"]);
}

#[test]
fn a_life_that_begins_again_is_told_again() {
    let home = Home::new();
    let words = ["run", "-d", "--name", "job", "--restart", "on-failure:1", "busybox", "false"];
    home.sandbox.hyperrun(words).code_is(0);
    let mut events = Running::start(home.sandbox.command([
        "events",
        "--since",
        "1h",
        "--filter",
        "container=job",
        "--format",
        "{{.Action}}",
    ]));
    events.wait_for("create\nstart\ndie\nstart\ndie\n");
    events.kill();
}

#[test]
fn memory_that_runs_out_is_told() {
    let home = Home::new();
    let words = "run --name fat -m 16m busybox dd if=/dev/zero of=/dev/null bs=30M count=1";
    let limit = "the container's limit of 16m";
    home.sandbox.hyperrun(words.split(' ')).code_is(137).stderr_has(limit);
    assert!(home.happened("container=fat").contains(&"oom".to_owned()));
    let told =
        "events --since 1h --until 0s --filter event=oom --format {{.Actor.Attributes.limit}}";
    home.sandbox.does(told).stdout_is(&format!("{limit}\n"));
    home.shows("fat", "{{.State.OOMKilled}} {{.State.OOMLimit}}", &format!("true {limit}"));
    // That of a larger one is its machine's.
    let words = "run --name wide -m 64m busybox tail /dev/zero";
    home.sandbox.hyperrun(words.split(' ')).stderr_has("the machine's memory of 64m");
}
