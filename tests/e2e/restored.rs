//! Snapshots of containers that run: what goes on from them, side by side, elsewhere, and what does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod services;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hyperrun_tests::{Running, Sandbox, SmallDisk};

use crate::home::Home;

/// A program whose state is in its memory, in a memory file system and on its disk; asked for it, it tells.
const COUNTER: &str = "n=0; trap 'echo told $n $(cat /dev/shm/mark /mark | tr \"\\n\" \" \")' USR1; \
     trap 'echo bye; exit 7' TERM; echo shm >/dev/shm/mark; echo disk >/mark; echo ready; \
     while :; do n=$((n+1)); echo $n >/dev/shm/count; sleep 0.05; done";

impl Home {
    /// How far a counter has come, once it is past a number.
    #[track_caller]
    fn counts_past(&self, name: &str, number: u64) -> u64 {
        let script = format!(
            "until [ \"$(cat /dev/shm/count)\" -gt {number} ]; do sleep 0.05; done; cat /dev/shm/count"
        );
        let out = self.sandbox.hyperrun(["exec", name, "sh", "-c", &script]);
        out.code_is(0).stdout.trim().parse().unwrap()
    }

    /// Asks a counter what it knows; it tells whoever follows its log.
    #[track_caller]
    fn has_counted(&self, name: &str) -> u64 {
        let mut follower = Running::start(self.sandbox.command(["logs", "-f", name]));
        self.sandbox.does(&format!("kill -s USR1 {name}"));
        follower.wait_for("shm disk");
        follower.kill();
        let log = self.sandbox.does(&format!("logs {name}")).stdout;
        log.lines().last().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn a_container_goes_on_twice_from_where_it_was_saved() {
    let home = Home::new();
    home.runs("web", COUNTER);
    let before = home.counts_past("web", 3);
    let out = home.sandbox.does("snapshot create web warm");
    out.stdout_is("warm\n").stderr_has("web stood still for ").stderr_has(" written\n");
    let saved = home.counts_past("web", before);
    home.sandbox.does("snapshot ls").stdout_has("NAME").stdout_has("warm").stdout_has("busybox");
    // The original goes on, and ends without harm to its copies.
    home.counts_past("web", saved + 2);
    home.sandbox.does("rm -f web");
    for name in ["one", "two"] {
        home.sandbox.does(&format!("restore -d --name {name} warm"));
    }
    for name in ["one", "two"] {
        assert!(home.has_counted(name) >= before);
        home.sandbox.does(&format!("exec {name} hostname")).stdout_is(&format!("{name}\n"));
        home.sandbox
            .does(&format!("exec {name} cat /etc/hostname"))
            .stdout_is(&format!("{name}\n"));
        home.shows(name, "{{.CopyOf.Snapshot}} {{.State.Status}}", "warm running");
        let log = home.sandbox.does(&format!("logs {name}")).stdout;
        assert!(log.starts_with("told "), "the log of a copy begins empty: {log}");
    }
    // They go on apart.
    home.sandbox.hyperrun(["exec", "one", "sh", "-c", "echo changed >/mark; sync"]).code_is(0);
    home.sandbox.does("exec two cat /mark").stdout_is("disk\n");
    let mut attached = Running::start(home.sandbox.command(["attach", "two"]));
    // Whoever is attached is known to the supervisor before it passes on what comes later.
    home.sandbox.does("exec two true");
    home.sandbox.does("stop two");
    attached.wait_for("bye\n");
    attached.finish_alone().code_is(7);
    home.shows("two", "{{.State.Status}} {{.State.ExitCode}}", "exited 7");
    home.sandbox.does("logs two").stdout_has("bye\n");
    home.sandbox.does("rm two");
    // And each is a container like any other: its next start boots it, with its disk.
    home.sandbox.does("stop -t 0 one");
    home.sandbox.does("cp one:/mark -").stdout_has("changed");
    home.sandbox.does("start one");
    home.is_ready("one");
    home.counts_past("one", 1);
    home.sandbox.does("restart -t 0 one");
    home.sandbox.does("rm -f one");
    home.sandbox.does("snapshot rm warm").stdout_is("warm\n");
    home.sandbox.does("snapshot ls -q").stdout_is("");
}

/// Where this folder is on a disk that has room for documents alone it is refused, and nothing is left of it.
#[track_caller]
fn has_no_room(sandbox: &Sandbox, folder: &Path, line: &str, code: i32) {
    let disk = SmallDisk::new(1);
    fs::write(disk.path().join("full"), vec![0; (1 << 20) - (64 << 10)]).unwrap();
    symlink(disk.path(), folder).unwrap();
    let out = sandbox.hyperrun(line.split(' '));
    out.code_is(code).stdout_is("").stderr_has("No space left on device");
    assert!(!out.stderr.contains("warning"), "{}", out.stderr);
    let left = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name != "full" && name != ".lock").collect();
    assert!(left.is_empty(), "{left:?}");
    fs::remove_file(folder).unwrap();
}

#[test]
fn a_snapshot_is_exported_and_goes_on_elsewhere() {
    let home = Home::new();
    // With a blank of its own: the file system of those that are shared may know no holes.
    fs::remove_file(home.folder.path().join("scratch")).unwrap();
    home.runs("web", COUNTER);
    let before = home.counts_past("web", 3);
    home.sandbox.does("snapshot create --stop web warm");
    home.shows("web", "{{.State.Status}}", "exited");
    let file = home.folder.path().join("warm.snapshot");
    home.sandbox.does(&format!("snapshot export -o {} warm", file.display()));
    let elsewhere = tempfile::tempdir().unwrap();
    let there = Sandbox::at(elsewhere.path());
    let import = format!("snapshot import -i {}", file.display());
    has_no_room(&there, &elsewhere.path().join("snapshots"), &import, 1);
    there.does(&import).stdout_is("warm\n");
    has_no_room(&there, &elsewhere.path().join("containers"), "restore -d warm", 125);
    let bytes = fs::read(&file).unwrap();
    let out = there.hyperrun_with_input(["snapshot", "import", "again"], &bytes);
    out.code_is(0).stdout_is("again\n");
    for name in ["warm", "again"] {
        there.does(&format!("restore -d --rm --name {name} {name}"));
        there.does(&format!("snapshot rm {name}"));
        let script = "cat /mark /dev/shm/mark /dev/shm/count";
        let out = there.hyperrun(["exec", name, "sh", "-c", script]);
        let told: Vec<_> = out.code_is(0).stdout.lines().collect();
        assert_eq!(told[..2], ["disk", "shm"]);
        assert!(told[2].parse::<u64>().unwrap() >= before);
    }
    there.remove_containers();
    there.does("network prune -f");
}

#[test]
fn what_was_saved_before_is_not_written_again() {
    let home = Home::new();
    // With a blank of its own: the file system of those that are shared may know no holes.
    fs::remove_file(home.folder.path().join("scratch")).unwrap();
    home.runs("web", COUNTER);
    let written = |name: &str| {
        let out = home.sandbox.does(&format!("snapshot inspect -f {{{{.Written}}}} {name}"));
        out.stdout.trim().parse::<u64>().unwrap()
    };
    let parent = |name: &str, parent: &str| {
        let out = home.sandbox.does(&format!("snapshot inspect -f {{{{.Parent}}}} {name}"));
        out.stdout_is(&format!("{parent}\n"));
    };
    home.sandbox.does("snapshot create web first");
    let more = "head -c 4000000 /dev/urandom >/dev/shm/more; head -c 1000000 /dev/urandom >/more; \
         sync; cat /dev/shm/more /more | md5sum";
    let sum = home.sandbox.hyperrun(["exec", "web", "sh", "-c", more]).code_is(0).stdout.clone();
    home.sandbox.does("snapshot create web second");
    parent("second", "first");
    let (whole, differing) = (written("first"), written("second"));
    assert!(differing > 5_000_000 && differing < 16_000_000, "{whole}, then {differing}");
    // It needs nothing of the one before it.
    home.sandbox.does("snapshot rm first");
    home.sandbox.does("rm -f web");
    home.sandbox.does("restore -d --name copy second");
    let has_all = |sandbox: &Sandbox, name: &str| {
        let ask = "cat /dev/shm/more /more | md5sum";
        sandbox.hyperrun(["exec", name, "sh", "-c", ask]).code_is(0).stdout_is(&sum);
    };
    has_all(&home.sandbox, "copy");
    home.sandbox.does("snapshot create --stop copy third");
    parent("third", "second");
    assert!(written("third") < 8_000_000, "{}", written("third"));
    home.sandbox.does("snapshot rm second");
    // Elsewhere it is whole.
    let file = home.folder.path().join("third.snapshot");
    home.sandbox.does(&format!("snapshot export -o {} third", file.display()));
    home.sandbox.does("snapshot rm third");
    home.sandbox.does(&format!("snapshot import -i {}", file.display()));
    parent("third", "");
    home.sandbox.does("restore -d --name last third");
    has_all(&home.sandbox, "last");
    assert!(home.has_counted("last") > 0);
}

#[test]
fn clones_go_on_beside_the_original() {
    let home = Home::new();
    home.runs("web", COUNTER);
    let before = home.counts_past("web", 3);
    let out = home.sandbox.does("clone -n 2 --rm --name copy web");
    assert_eq!(out.stdout.lines().filter(|id| id.len() == 64).count(), 2, "{}", out.stdout);
    for name in ["web", "copy-1", "copy-2"] {
        assert!(home.has_counted(name) >= before);
    }
    home.sandbox.does("snapshot ls -q").stdout_is("");
    // A clone of a clone, and of one that is kept.
    home.sandbox.does("clone --name third copy-1");
    home.sandbox.does("rm -f copy-1 copy-2 web");
    assert!(home.has_counted("third") >= before);
    home.sandbox.does("stop -t 0 third");
    home.sandbox.does("start third");
    home.is_ready("third");
    let left = fs::read_dir(home.folder.path().join("snapshots")).unwrap().count();
    assert_eq!(left, 0, "nothing is left of what clones came from");
}

#[test]
fn a_paused_container_is_saved_and_stays_paused() {
    let home = Home::new();
    home.runs("web", COUNTER);
    let before = home.counts_past("web", 3);
    home.sandbox.does("pause web");
    home.sandbox.does("snapshot create web warm");
    home.shows("web", "{{.State.Status}}", "paused");
    home.sandbox.does("restore -d --name copy warm");
    home.shows("copy", "{{.State.Status}}", "running");
    assert!(home.has_counted("copy") >= before);
    home.sandbox.does("unpause web");
    assert!(home.has_counted("web") >= before);
}

#[test]
fn what_is_started_in_a_container_that_is_being_saved_waits() {
    let home = Home::new();
    home.runs("web", COUNTER);
    let mut saving = Running::start(home.sandbox.command(["snapshot", "create", "web", "warm"]));
    while !saving.has_ended() {
        home.sandbox.does("exec web true");
    }
    saving.finish_alone().code_is(0);
}

#[test]
fn what_cannot_be_saved_or_restored_is_said() {
    let home = Home::new();
    home.fails("snapshot create none warm", 1, "no such container: none");
    home.fails("snapshot rm warm", 1, "no such snapshot: warm");
    home.fails("restore warm", 125, "no such snapshot: warm");
    home.sandbox.does("create --name web busybox sh -c true");
    home.fails("snapshot create web warm", 1, "container web is not running");
    home.fails("clone web", 125, "container web is not running");
    home.sandbox.does("rm web");
    home.runs("web", COUNTER);
    home.sandbox.does("snapshot create web warm");
    home.fails("snapshot create web warm", 1, "the snapshot name \"warm\" is already in use");
    home.fails("restore --name web warm", 125, "the container name \"web\" is already in use");
    home.fails("restore -d --network nowhere warm", 125, "nowhere");
    home.sandbox.does("rm -f web");
    home.fails("rmi busybox", 1, "snapshot warm");
    home.sandbox.does("image prune -a -f");
    // A snapshot that was changed is found out, and no container is left.
    let memory = home.folder.path().join("snapshots/warm/memory");
    fs::OpenOptions::new().write(true).open(memory).unwrap().set_len(1 << 20).unwrap();
    home.fails("restore -d warm", 125, "snapshot warm is damaged");
    home.sandbox.does("ps -aq").stdout_is("");
    home.sandbox.does("snapshot rm warm");
    home.sandbox.does("rmi busybox");
}

#[test]
fn a_full_disk_during_a_snapshot_harms_nobody() {
    let home = Home::new();
    home.runs("web", COUNTER);
    let before = home.counts_past("web", 3);
    let disk = SmallDisk::new(8);
    symlink(disk.path(), home.folder.path().join("snapshots")).unwrap();
    home.fails("snapshot create web warm", 1, "No space left on device");
    assert!(home.has_counted("web") >= before);
    home.sandbox.does("snapshot ls -q").stdout_is("");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0, "nothing is left");
    home.fails("clone web", 125, "No space left on device");
    home.counts_past("web", before + 1);
    home.sandbox.does("rm -f web");
}
