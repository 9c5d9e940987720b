//! Health checks: what is run in the container, what its results make of it, and where that is shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use hyperrun_tests::Running;

use crate::home::Home;

impl Home {
    /// A container that is checked ten times a second, by a line for its shell.
    #[track_caller]
    fn checked(&self, name: &str, check: &str, flags: &[&str]) {
        let words =
            ["run", "-d", "--name", name, "--health-cmd", check, "--health-interval", "100ms"];
        let words = [&words[..], flags, &["busybox", "sleep", "1000"]].concat();
        self.sandbox.hyperrun(words).code_is(0);
    }

    #[track_caller]
    fn health(&self, name: &str, template: &str) -> String {
        let template = format!("{{{{with .State.Health}}}}{template}{{{{end}}}}");
        let out = self.sandbox.hyperrun(["inspect", "-f", &template, name]);
        out.code_is(0).stdout.trim_end().to_owned()
    }

    /// Waits until a container does like this.
    #[track_caller]
    fn does(&self, name: &str, status: &str) {
        while self.health(name, "{{.Status}}") != status {}
    }
}

#[test]
fn a_container_gets_well_and_unwell_and_well_again() {
    let home = Home::new();
    home.checked("web", "echo looking; test -e /well", &["--health-retries", "2"]);
    home.does("web", "unhealthy");
    home.sandbox.does("ps --format {{.Status}}").stdout_has(" (unhealthy)\n");
    home.sandbox.does("exec web touch /well");
    home.does("web", "healthy");
    home.sandbox.does("ps --format {{.Status}}").stdout_has(" (healthy)\n");
    home.sandbox.does("ps -q --filter health=unhealthy").stdout_is("");
    home.sandbox.does("ps --format {{.Names}} --filter health=healthy").stdout_is("web\n");
    let last = home.health("web", "{{with index .Log 0}}{{.ExitCode}} {{json .Output}}{{end}}");
    assert!(["0 \"looking\\n\"", "1 \"looking\\n\""].contains(&last.as_str()), "{last}");
    while home.health("web", "{{len .Log}}") != "5" {}
    home.sandbox.does("exec web rm /well");
    home.does("web", "unhealthy");
    let streak: u32 = home.health("web", "{{.FailingStreak}}").parse().unwrap();
    assert!(streak >= 2);
    home.sandbox.does("stop -t 0 web");
    assert_eq!(home.health("web", "{{.Status}}"), "unhealthy");
    home.sandbox.does("ps -a --format {{.Status}}").stdout_has("Exited (137) ");
}

#[test]
fn nothing_is_known_before_the_first_check() {
    let home = Home::new();
    home.sandbox
        .does("run -d --name web --health-cmd true --health-interval 1h busybox sleep 1000");
    home.sandbox.does("ps --format {{.Status}}").stdout_has(" (health: starting)\n");
    assert_eq!(home.health("web", "{{.Status}} {{.FailingStreak}} {{len .Log}}"), "starting 0 0");
    home.sandbox.does("run -d --name plain busybox sleep 1000");
    home.sandbox.does("ps --format {{.Names}} --filter health=none").stdout_is("plain\n");
    home.sandbox.does("ps --format {{.Names}} --filter health=starting").stdout_is("web\n");
    assert_eq!(home.health("plain", "x"), "");
    home.fails("ps --filter health=fine", 1, "invalid filter 'health=fine'");
}

#[test]
fn a_check_that_takes_too_long_has_failed() {
    let home = Home::new();
    let flags = ["--health-timeout", "3s", "--health-retries", "1"];
    home.checked("slow", "echo begun; sleep 1000", &flags);
    home.does("slow", "unhealthy");
    let last = home.health("slow", "{{with index .Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(last, "-1 Health check exceeded timeout (3s): begun");
    // What was killed is gone.
    home.sandbox.does("pause slow");
    home.sandbox.does("unpause slow");
    home.checked("none", "exec no-such-program", &["--health-retries", "1"]);
    home.does("none", "unhealthy");
    assert!(home.health("none", "{{with index .Log 0}}{{.ExitCode}}{{end}}") == "127");
}

#[test]
fn a_long_output_is_cut() {
    let home = Home::new();
    home.checked("loud", "yes | head -c 100000", &[]);
    home.does("loud", "healthy");
    let output = home.health("loud", "{{with index .Log 0}}{{.Output}}{{end}}");
    assert_eq!(output.len(), 4096 + 3);
    assert!(output.ends_with("..."));
}

#[test]
fn failures_at_the_start_do_not_count() {
    let home = Home::new();
    let flags =
        ["--health-retries", "1", "--health-start-period", "1h", "--health-start-interval", "50ms"];
    home.checked("late", "test -e /well", &flags);
    while home.health("late", "{{len .Log}}") != "5" {}
    assert_eq!(home.health("late", "{{.Status}} {{.FailingStreak}}"), "starting 0");
    home.sandbox.does("exec late touch /well");
    home.does("late", "healthy");
    home.sandbox.does("exec late rm /well");
    home.does("late", "unhealthy");
}

#[test]
fn a_restart_begins_anew() {
    let home = Home::new();
    home.checked("web", "true", &[]);
    home.does("web", "healthy");
    let mut events = Running::start(home.sandbox.command(["events", "--since", "1h"]));
    events.wait_for("health_status: healthy");
    home.sandbox.does("restart -t 0 web");
    home.does("web", "healthy");
    events.wait_for(" container restart ");
    events.kill();
}
