//! Who makes snapshots and what goes on from them is killed: the originals are unharmed, a snapshot is there as a
//! whole or not at all, and nothing is left of a copy that did not begin.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use hyperrun_tests::{Running, Sample, SmallDisk};

use super::place::{Place, World, names};
use super::{Before, Deed, Moment, NAMES, Tally, Victim, deed, in_order, rounds, strike};

/// What is done, verb by verb: about as often each. Where FILE stands, there is the path of one.
const VERBS: [&[Deed]; 6] = [
    &[
        copying("snapshot create NAME NAME-new", 2000),
        copying("snapshot create --stop NAME NAME-new", 2000),
        copying("snapshot create --keep-running NAME NAME-after-spare", 2000),
    ],
    &[
        copying("restore -d --name NAME-copy kept", 900),
        copying("restore -d --rm --name NAME-copy kept", 900),
    ],
    &[
        copying("clone -n 2 --rm --name NAME-copy NAME", 3500),
        copying("clone --name NAME-copy NAME", 2500),
    ],
    &[copying("snapshot rm NAME-spare", 30)],
    &[copying("snapshot export -o FILE.NAME kept", 2400)],
    &[copying("snapshot import -i FILE NAME-new", 2000)],
];

const fn copying(words: &'static str, takes_ms: usize) -> Deed {
    deed(words, Before::Running, takes_ms)
}

/// What the originals do: there is something on their disk, and something in their memory.
const SCRIPT: &str = "echo disk >/mark; echo memory >/dev/shm/mark; sleep 1000";
/// Whether a container has both.
const HAS_MARKS: [&str; 3] =
    ["sh", "-c", "[ $(cat /mark /dev/shm/mark | tr -d '\\n') = diskmemory ]"];
/// Waits until a container has both.
const AWAIT_MARKS: [&str; 3] = ["sh", "-c", "until [ -s /dev/shm/mark ]; do sleep 0.01; done"];

/// Kills one at random moments of all that is done about snapshots, and judges what is left. The originals go on
/// from round to round, as long as nothing that concerned them was killed.
fn sweep(victim: Victim) {
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    // There files can be without a name until they are whole.
    let disk = SmallDisk::new(256);
    let place = Place::new();
    symlink(disk.path(), place.exports()).unwrap();
    place.runs_originals();
    place.does("snapshot create one kept");
    place.does(&format!("snapshot export -o {} kept", place.exported()));
    let verbs: Vec<_> = VERBS.into_iter().filter(|verb| victim.copies(&verb[0])).collect();
    let mut tally = Tally::default();
    for _ in 0..rounds() {
        let moments = NAMES.map(|name| {
            let verb = verbs[sample.below(verbs.len())];
            let mut moment = Moment::of(&verb[sample.below(verb.len())], name, &mut sample, &tally);
            moment.words = moment.words.replace("FILE", &place.exported());
            moment
        });
        round(&place, moments, victim, &mut tally);
    }
    place.is_restored(&["kept".to_owned()]);
    place.forgets(place.snapshots());
    place.is_cleared("the end");
    tally.is_enough(2);
}

impl Victim {
    /// Whether there is one while that is done.
    fn copies(self, deed: &Deed) -> bool {
        let has_machine = ["snapshot create", "restore", "clone"];
        self == Self::CommandLine || has_machine.iter().any(|verb| deed.words.starts_with(verb))
    }
}

impl Moment {
    /// Whether the supervisor that is killed is the original's. Copies have their own, and one of two clones is
    /// enough to see both.
    fn concerns_original(&self) -> bool {
        !self.words.starts_with("restore") && !self.words.starts_with("clone --name")
    }

    /// Whether this is a snapshot that it makes or removes.
    fn concerns(&self, snapshot: &str) -> bool {
        self.words.split(' ').any(|word| word == snapshot)
    }
}

/// Does what is to be done, kills those who do it, and judges.
fn round(place: &Place, mut moments: [Moment; 4], victim: Victim, tally: &mut Tally) {
    let when = in_order(&mut moments, victim);
    place.runs_originals();
    place.has_spares(&moments);
    let before = place.world();
    let all = place.supervisors();
    let supervisors = moments.each_ref().map(|moment| {
        let is_concerned = victim != Victim::CommandLine && moment.concerns_original();
        is_concerned.then(|| all[moment.name])
    });
    let (doings, kills) = strike(place, &moments, supervisors, victim);
    doings.into_iter().for_each(|doing| drop(doing.finish_alone()));
    place.is_true(&when, &[], &HAS_MARKS);
    let after = place.supervisors();
    for (moment, supervisor) in moments.iter().zip(supervisors) {
        let (name, is_stopped) = (moment.name, moment.words.contains("--stop"));
        let is_spared = supervisor.is_none() && !is_stopped;
        assert!(!is_spared || all[name] == after[name], "{when}: {name} does not run any more");
    }
    place.has_whole_snapshots(&when, &moments);
    place.has_originals_only(&when, &before);
    for (moment, kill) in moments.iter().zip(kills) {
        tally.add(moment, kill);
    }
}

impl Place {
    /// Where files are exported to.
    fn exports(&self) -> PathBuf {
        self.state().with_file_name("exports")
    }

    /// Where the snapshot that is kept was exported to.
    fn exported(&self) -> String {
        self.exports().join("kept").display().to_string()
    }

    /// Does all of it at once, and each succeeds.
    #[track_caller]
    fn does_all(&self, lines: impl IntoIterator<Item = Vec<String>>) {
        let doing = |words: Vec<String>| Running::start(self.sandbox.command(words));
        let all: Vec<_> = lines.into_iter().map(doing).collect();
        for doing in all {
            doing.finish_alone().code_is(0);
        }
    }

    /// All originals run, those that were there as what they are, and have their marks.
    #[track_caller]
    fn runs_originals(&self) {
        let states: BTreeMap<_, _> = self.states().into_iter().collect();
        let runs = |name: &String| states.get(name).is_some_and(|state| state == "running");
        let ended: Vec<_> =
            NAMES.map(str::to_owned).into_iter().filter(|name| !runs(name)).collect();
        let begin = |name: &String| match states.contains_key(name) {
            true => ["start", name].map(str::to_owned).to_vec(),
            false => ["run", "-d", "--name", name, "busybox", "sh", "-c", SCRIPT]
                .map(str::to_owned)
                .to_vec(),
        };
        self.does_all(ended.iter().map(begin));
        self.all_do(&ended, &AWAIT_MARKS);
    }

    /// There is what will be removed, or differed from.
    #[track_caller]
    fn has_spares(&self, moments: &[Moment]) {
        let there = self.snapshots();
        let spare = |moment: &Moment| {
            let spare = format!("{}-spare", moment.name);
            let is_wanted = moment.words.ends_with("spare") && !there.contains(&spare);
            let words = ["snapshot", "create", moment.name, &spare].map(str::to_owned);
            is_wanted.then(|| words.to_vec())
        };
        self.does_all(moments.iter().filter_map(spare));
    }

    /// Runs a program in each of these containers, all at once, and it succeeds.
    #[track_caller]
    fn all_do(&self, names: &[String], asked: &[&str]) {
        for out in self.ask_all(names, asked) {
            out.code_is(0);
        }
    }

    /// The supervisors of all originals.
    fn supervisors(&self) -> BTreeMap<&'static str, u32> {
        let pids = self.does(&format!("inspect -f {{{{.State.Pid}}}} {}", NAMES.join(" "))).stdout;
        NAMES.into_iter().zip(pids.lines().map(|pid| pid.parse().unwrap())).collect()
    }

    /// Those that are listed.
    #[track_caller]
    fn snapshots(&self) -> Vec<String> {
        self.does("snapshot ls -q").stdout.lines().map(str::to_owned).collect()
    }

    /// Each snapshot that is new and listed can be gone on from, as can one that was not removed, and each file
    /// that was exported; nothing else is there. Those that are new are removed.
    #[track_caller]
    fn has_whole_snapshots(&self, when: &str, moments: &[Moment; 4]) {
        let mut listed = self.snapshots();
        listed.retain(|name| name != "kept");
        let (mut found, others): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|name| moments.iter().any(|one| one.concerns(name)));
        assert!(others.iter().all(|name| name.ends_with("-spare")), "{when}: {others:?}");
        for name in NAMES {
            let file = format!("{}.{name}", self.exported());
            if fs::exists(&file).unwrap() {
                self.does(&format!("snapshot import -i {file} {name}-exported"));
                fs::remove_file(&file).unwrap();
                found.push(format!("{name}-exported"));
            }
        }
        let exported = names(&self.exports());
        assert!(exported.iter().eq(["kept"]), "{when}: {exported:?}");
        self.is_restored(&found);
        found.retain(|name| !name.ends_with("-spare") || name.ends_with("-after-spare"));
        self.forgets(found);
        let left: Vec<_> = names(&self.state().join("snapshots")).into_iter().collect();
        let mut listed = self.snapshots();
        listed.sort();
        assert_eq!(left, listed, "{when}");
    }

    /// Something goes on from each of them, and has all that is its own.
    #[track_caller]
    fn is_restored(&self, snapshots: &[String]) {
        let copy = |name: &String| format!("again-{name}");
        self.does_all(snapshots.iter().map(|name| {
            ["restore", "-d", "--rm", "--name", &copy(name), name].map(str::to_owned).to_vec()
        }));
        self.all_do(&snapshots.iter().map(copy).collect::<Vec<_>>(), &HAS_MARKS);
    }

    fn forgets(&self, snapshots: Vec<String>) {
        if !snapshots.is_empty() {
            let words = ["snapshot", "rm"].map(str::to_owned).into_iter().chain(snapshots);
            self.does_all([words.collect()]);
        }
    }

    /// Once the copies are removed, there is nothing on the host that was not there before, and nothing in the
    /// state folder but the originals.
    #[track_caller]
    fn has_originals_only(&self, when: &str, before: &World) {
        let states = self.states();
        let copies =
            states.iter().map(|(name, _)| name).filter(|name| !NAMES.contains(&name.as_str()));
        let copies: Vec<_> = copies.cloned().collect();
        if !copies.is_empty() {
            let words = ["rm", "-f"].map(str::to_owned).into_iter().chain(copies);
            self.does_all([words.collect()]);
        }
        self.tells_truth(when, &[]);
        self.has_folders(when, NAMES.len());
        let now = World::settled(|| self.world(), before);
        assert!(now.is_within(before), "{when}: {now:?}, and before {before:?}");
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
#[ignore = "takes a minute; the soak kills machines too"]
fn a_machine_is_killed_at_any_moment_of_a_snapshot_or_a_restore() {
    sweep(Victim::Machine);
}
