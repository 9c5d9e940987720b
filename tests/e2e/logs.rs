//! What a container's program has written, kept and shown.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use hyperrun_tests::{Running, Sandbox, SmallDisk};

/// A container that writes to both streams, and its sandbox.
fn talker(folder: &std::path::Path, script: &str, flags: &[&str]) -> Sandbox {
    let sandbox = Sandbox::beside_others(folder);
    let words = ["--name", "talker", "busybox", "sh", "-c", script];
    let words = [&["run", "-d"], flags, &words].concat();
    sandbox.hyperrun(words).code_is(0);
    sandbox
}

#[test]
fn streams_are_kept_apart_and_times_shown() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = talker(folder.path(), "echo out; echo err >&2; printf unfinished", &[]);
    sandbox.hyperrun(["wait", "talker"]).stdout_is("0\n");
    sandbox.hyperrun(["logs", "talker"]).stdout_is("out\nunfinished").stderr_is("err\n");
    sandbox.hyperrun(["logs", "-n", "1", "talker"]).stdout_is("unfinished").stderr_is("");
    sandbox.hyperrun(["logs", "--tail", "0", "talker"]).stdout_is("").stderr_is("");
    let timed = sandbox.hyperrun(["logs", "-t", "talker"]);
    let time = timed.stdout.split(' ').next().unwrap().to_owned();
    assert!(time.len() > 20 && time.ends_with('Z'), "{}", timed.stdout);
    sandbox.hyperrun(["logs", "--until", "1h", "talker"]).stdout_is("");
    sandbox.hyperrun(["logs", "--since", "1h", "talker"]).stdout_is("out\nunfinished");
    sandbox.hyperrun(["logs", "--since", "soon", "talker"]).fails_with(1, "--since");
    sandbox.remove_containers();
}

#[test]
fn a_follower_sees_what_comes_and_ends_with_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let sandbox = talker(folder.path(), script, &[]);
    let mut follower = Running::start(sandbox.command(["logs", "-f", "talker"]));
    follower.wait_for("ready\n");
    sandbox.hyperrun(["stop", "talker"]).code_is(0);
    follower.finish_alone().code_is(0).stdout_is("ready\nbye\n");
    sandbox.remove_containers();
}

#[test]
fn a_flood_is_followed_whole_over_rotations_whoever_is_killed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap go=1 USR1; echo ready; until [ \"$go\" ]; do sleep 1000 & wait; done; \
                  seq 60000 | sed 's/7$/&\t\"\\\\\u{e4}/'";
    let flags = ["--log-opt", "max-size=512k", "--log-opt", "max-file=30"];
    let sandbox = talker(folder.path(), script, &flags);
    let mut killed = Running::start(sandbox.command(["logs", "-f", "talker"]));
    let mut follower = Running::start(sandbox.command(["logs", "-f", "talker"]));
    killed.wait_for("ready\n");
    follower.wait_for("ready\n");
    sandbox.hyperrun(["kill", "-s", "USR1", "talker"]).code_is(0);
    killed.wait_for("\n100\n");
    killed.kill();
    let line = |number: u32| match number % 10 {
        7 => format!("{number}\t\"\\\u{e4}\n"),
        _ => format!("{number}\n"),
    };
    let wanted: String = (1..=60_000).map(line).collect();
    follower.finish_alone().code_is(0).stdout_is(&format!("ready\n{wanted}"));
    sandbox.hyperrun(["logs", "-n", "60000", "talker"]).stdout_is(&wanted);
    sandbox.remove_containers();
}

#[test]
fn a_log_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    // Slowly, and so fast that files are written over.
    let script =
        "yes 0123456789abcdef | head -n 20000; yes 0123456789abcdef | head -n 400000; echo last";
    let flags = ["--log-opt", "max-size=256k", "--log-opt", "max-file=2"];
    let sandbox = talker(folder.path(), script, &flags);
    sandbox.hyperrun(["wait", "talker"]).stdout_is("0\n");
    sandbox.hyperrun(["logs", "-n", "2", "talker"]).stdout_is("0123456789abcdef\nlast\n");
    let path = sandbox.hyperrun(["inspect", "-f", "{{.LogPath}}", "talker"]).stdout;
    let path = std::path::Path::new(path.trim());
    let logs: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().contains("json.log"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!(logs.len() == 2 && logs.iter().all(|bytes| *bytes <= 256 << 10), "{logs:?}");
    sandbox.remove_containers();
}

#[test]
fn there_need_be_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = talker(folder.path(), "echo lost", &["--log-driver", "none"]);
    sandbox.hyperrun(["wait", "talker"]).stdout_is("0\n");
    sandbox.hyperrun(["logs", "talker"]).fails_with(1, "has no log");
    let out = sandbox.hyperrun(["start", "-a", "talker"]);
    out.code_is(0).stdout_is("lost\n");
    sandbox.remove_containers();
}

#[test]
fn a_full_disk_is_told_once_and_stops_nothing() {
    let disk = SmallDisk::new(24);
    let sandbox = Sandbox::with_busybox(disk.path());
    let words = ["run", "--no-template", "--name", "flood", "--log-opt", "max-size=1g", "busybox"];
    // More than the disk holds, in whatever form it is kept.
    let script = "yes 0123456789abcdef | head -n 1500000; echo last";
    let out = sandbox.hyperrun([&words[..], &["sh", "-c", script]].concat());
    out.code_is(0);
    assert!(out.stdout.ends_with("0123456789abcdef\nlast\n"));
    assert_eq!(out.stdout.len(), 1_500_000 * 17 + 5);
    assert_eq!(out.stderr.matches("could not be written").count(), 1, "{}", out.stderr);
    sandbox.remove_containers();
}
