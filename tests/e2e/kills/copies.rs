//! Who makes snapshots and what goes on from them is killed: the original is unharmed, a snapshot is there as a
//! whole or not at all, and nothing is left of a copy that did not begin.

use std::fs;
use std::thread;
use std::time::Duration;

use hyperrun_tests::{Running, Sample, sample_size};

use super::place::Place;
use super::{Before, Deed, Victim, are_enough, deed, kill};

/// Moments tried with `HYPERRUN_TEST_FULL`, of each one who is killed.
const MOMENTS: usize = 30;
/// Where FILE stands, there is the path of one.
const DEEDS: [Deed; 9] = [
    deed("snapshot create one warm", Before::Running, 1200),
    deed("snapshot create --stop one warm", Before::Running, 1200),
    deed("snapshot create --keep-running one after-spare", Before::Running, 800),
    deed("restore -d --name two kept", Before::Running, 700),
    deed("restore -d --rm --name two kept", Before::Running, 700),
    deed("clone -n 2 --rm --name two one", Before::Running, 2000),
    deed("snapshot rm spare", Before::Running, 60),
    deed("snapshot export -o FILE kept", Before::Running, 2000),
    deed("snapshot import -i FILE.kept warm", Before::Running, 1000),
];
const SCRIPT: [&str; 8] = ["run", "-d", "--name", "one", "busybox", "sh", "-c", "sleep 1000"];

fn sweep(victim: Victim) {
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    let place = Place::new();
    place.sandbox.hyperrun(SCRIPT).code_is(0);
    place.does("snapshot create one kept");
    place.does("rm -f one");
    let file = place.state().with_file_name("exported").display().to_string();
    place.does(&format!("snapshot export -o {file}.kept kept"));
    let (mut hits, kills) = (0, sample_size(MOMENTS));
    for _ in 0..kills {
        let deed = &DEEDS[sample.below(DEEDS.len())];
        let delay_ms = sample.below(deed.takes_ms);
        let when = format!("{victim:?}, {delay_ms} ms into {}", deed.words);
        println!("{when}");
        place.sandbox.hyperrun(SCRIPT).code_is(0);
        if deed.words.contains("spare") {
            place.does("snapshot create one spare");
        }
        let supervisor = place.a_supervisor().filter(|_| deed.words.starts_with("snapshot"));
        let words = deed.words.replace("FILE", &file);
        let doing = Running::start(place.sandbox.command(words.split(' ')));
        thread::sleep(Duration::from_millis(delay_ms as u64));
        hits += usize::from(kill(&place, &doing, supervisor, victim));
        doing.finish_alone();
        let stops = deed.words.contains("--stop");
        place.has_whole_copies(&when, victim == Victim::CommandLine && !stops);
        place.is_cleared(&when);
        if fs::exists(&file).unwrap() {
            place.does(&format!("snapshot import -i {file} exported"));
            fs::remove_file(&file).unwrap();
        }
        place.has_whole_snapshots(&when);
    }
    place.goes_on("kept");
    are_enough(hits, kills, MOMENTS, 2);
}

impl Place {
    /// Somebody whose child is a machine: the original's, as long as nothing else runs.
    fn a_supervisor(&self) -> Option<u32> {
        let all = self.processes();
        all.iter().find(|one| all.iter().any(|other| other.parent == one.id)).map(|one| one.id)
    }

    /// Whoever is said to run answers, or is said not to from now on; the original runs if it was spared.
    #[track_caller]
    fn has_whole_copies(&self, when: &str, is_spared: bool) {
        let runs = |name: &str| {
            let all = self.within(["ps", "--format", "{{.Names}}"]).stdout;
            all.lines().any(|line| line == name)
        };
        for name in self.within(["ps", "--format", "{{.Names}}"]).stdout.lines() {
            let out = self.within(["exec", name, "echo", "here"]);
            if out.code != 0 {
                println!("{name} does not answer: {}", out.stderr);
                self.wait(when, |_| !runs(name));
            }
        }
        assert!(!is_spared || runs("one"), "{when}");
    }

    /// Each snapshot that is new and listed can be gone on from, and nothing else is there. They are removed.
    #[track_caller]
    fn has_whole_snapshots(&self, when: &str) {
        for name in self.does("snapshot ls -q").stdout.lines().filter(|name| *name != "kept") {
            self.goes_on(name);
            self.does(&format!("snapshot rm {name}"));
        }
        self.ends(when);
        let left = fs::read_dir(self.state().join("snapshots")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"], "{when}");
    }

    #[track_caller]
    fn goes_on(&self, name: &str) {
        self.does(&format!("restore -d --rm --name two {name}"));
        self.within(["exec", "two", "echo", "here"]).code_is(0).stdout_is("here\n");
        self.does("rm -f two");
    }
}

#[test]
#[ignore = "takes a minute; the soak kills command lines too"]
fn whoever_saves_or_restores_is_killed_at_any_moment() {
    sweep(Victim::CommandLine);
}

#[test]
#[ignore = "takes a minute; the soak kills supervisors too"]
fn a_supervisor_is_killed_at_any_moment_of_a_snapshot_or_a_restore() {
    sweep(Victim::Supervisor);
}

#[test]
#[ignore = "takes minutes; the soak kills machines too"]
fn a_machine_is_killed_at_any_moment_of_a_snapshot_or_a_restore() {
    sweep(Victim::Machine);
}
