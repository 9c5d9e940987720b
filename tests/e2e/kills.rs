//! Whoever is killed, at whatever moment: `ps -a` is true afterwards, and `rm -f` leaves nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a failed test shows its seed and what it has met")]

mod copies;
mod place;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use hyperrun_tests::{Running, Sample, is_full};

use place::Place;

/// Moments tried with `HYPERRUN_TEST_FULL`, of each one who is killed.
const MOMENTS: usize = 100;

/// The containers of a round. Something is done to each at once, and what is left is judged once: that
/// is most of the work.
const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// How often something is done to all of these: once, or until all moments are tried.
fn rounds() -> usize {
    if is_full() { MOMENTS / NAMES.len() } else { 1 }
}

/// What is being done to a container when somebody is killed.
struct Deed {
    words: &'static str,
    /// What made the container before.
    before: Before,
    /// About how long it takes beside the others, in milliseconds, until that is known better; a kill comes at any
    /// moment of it.
    takes_ms: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Created,
    Running,
}

const fn deed(words: &'static str, before: Before, takes_ms: usize) -> Deed {
    Deed { words, before, takes_ms }
}

const DEEDS: [Deed; 9] = [
    deed("run -d --name NAME busybox sleep 1000", Before::Nothing, 2000),
    deed("run --rm --name NAME busybox sleep 1000", Before::Nothing, 2000),
    deed("create --name NAME busybox sleep 1000", Before::Nothing, 300),
    deed("start NAME", Before::Created, 1800),
    deed("exec NAME sleep 0.1", Before::Running, 700),
    deed("stop -t 0 NAME", Before::Running, 500),
    deed("rm -f NAME", Before::Running, 900),
    deed("rm NAME", Before::Created, 400),
    deed("commit NAME made:1", Before::Running, 800),
];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    CommandLine,
    Supervisor,
    Machine,
}

impl Victim {
    /// Whether there is one while that is done: whoever makes no machine has none to lose.
    fn has_part_in(self, deed: &Deed) -> bool {
        self == Self::CommandLine
            || deed.before == Before::Running
            || !(deed.words.starts_with("create") || deed.words.starts_with("rm "))
    }
}

/// When somebody is killed.
struct Moment {
    name: &'static str,
    words: String,
    deed: &'static Deed,
    delay: Duration,
}

/// What has come of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    Hit,
    /// There was nobody yet.
    TooEarly,
    /// There was nobody any more.
    TooLate,
}

impl Moment {
    /// Any moment of this deed.
    fn of(deed: &'static Deed, name: &'static str, sample: &mut Sample, tally: &Tally) -> Self {
        let delay = Duration::from_millis(sample.below(tally.takes_ms(deed)) as u64);
        Self { name, words: deed.words.replace("NAME", name), deed, delay }
    }

    /// The verb, and its noun.
    fn verb(&self) -> String {
        let count = if self.words.starts_with("snapshot") { 2 } else { 1 };
        self.words.split(' ').take(count).collect::<Vec<_>>().join(" ")
    }

    /// Makes the container; the number of its supervisor if that runs.
    fn prepare(&self, place: &Place) -> Option<u32> {
        let known = place.processes();
        let make = match self.deed.before {
            Before::Nothing => return None,
            Before::Created => "create",
            Before::Running => "run -d",
        };
        place.does(&format!("{make} --name {} busybox sleep 1000", self.name));
        let mut new = place.processes();
        new.retain(|one| known.iter().all(|other| one.id != other.id));
        new.iter().find(|one| new.iter().any(|other| other.parent == one.id)).map(|one| one.id)
    }
}

/// Kills one at random moments of random deeds, and judges what is left.
fn sweep(victim: Victim) {
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    let place = Place::new();
    let deeds: Vec<&'static Deed> = DEEDS.iter().filter(|deed| victim.has_part_in(deed)).collect();
    let mut tally = Tally::default();
    for _ in 0..rounds() {
        let moments = NAMES.map(|name| {
            let deed = deeds[sample.below(deeds.len())];
            Moment::of(deed, name, &mut sample, &tally)
        });
        round(&place, moments, victim, &mut tally);
    }
    place.is_as_it_was();
    tally.is_enough(4);
}

/// What has come of all kills.
#[derive(Default)]
struct Tally {
    /// By verbs, how many there were, and how many of them hit somebody.
    kills: BTreeMap<String, (usize, usize)>,
    /// How long deeds take on this host, in milliseconds.
    takes_ms: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn takes_ms(&self, deed: &Deed) -> usize {
        self.takes_ms.get(deed.words).copied().unwrap_or(deed.takes_ms)
    }

    /// Notes what has come of one. A deed is over by the time at which a kill came too late; the next kills may come
    /// a little later again.
    fn add(&mut self, moment: &Moment, kill: Kill) {
        let (kills, hits) = self.kills.entry(moment.verb()).or_default();
        (*kills, *hits) = (*kills + 1, *hits + usize::from(kill == Kill::Hit));
        let known = self.takes_ms(moment.deed);
        let over = usize::try_from(moment.delay.as_millis()).unwrap_or(usize::MAX);
        let takes_ms = if kill == Kill::TooLate { over.max(1) } else { known + known.div_ceil(16) };
        self.takes_ms.insert(moment.deed.words, takes_ms);
    }

    /// In a full sweep one kill in `share` at least has hit somebody; a few moments of a quick host may all come
    /// too late.
    fn is_enough(&self, share: usize) {
        for (verb, (kills, hits)) in &self.kills {
            println!("{verb}: {hits} of {kills}");
        }
        let all = self.kills.values();
        let (kills, hits) = all.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        println!("{hits} of {kills} hit somebody");
        assert!(!is_full() || hits * share >= kills, "most kills came too late: {hits} of {kills}");
    }
}

/// Does what is to be done, kills those who do it, and judges.
fn round(place: &Place, mut moments: [Moment; 4], victim: Victim, tally: &mut Tally) {
    let when = in_order(&mut moments, victim);
    let supervisors = moments.each_ref().map(|moment| moment.prepare(place));
    let (doings, kills) = strike(place, &moments, supervisors, victim);
    // One that is attached, and not hit or tried again without a template, goes on until its container
    // is removed.
    let mut attached = Vec::new();
    for ((moment, doing), kill) in moments.iter().zip(doings).zip(kills) {
        if moment.words.starts_with("run --rm") {
            attached.push((moment.name, doing));
            continue;
        }
        let out = doing.finish_alone();
        // Whoever is beside one that is killed does what it is to do.
        if kill != Kill::Hit {
            out.code_is(0);
        }
    }
    place.settle(&when, &mut attached);
    let clients: Vec<u32> = attached.iter().map(|(_, doing)| doing.id()).collect();
    place.is_true(&when, &clients, &["true"]);
    place.is_cleared(&when);
    attached.into_iter().for_each(|(_, doing)| drop(doing.finish_alone()));
    for (moment, kill) in moments.iter().zip(kills) {
        tally.add(moment, kill);
    }
}

/// Puts moments in order, and tells them.
fn in_order(moments: &mut [Moment; 4], victim: Victim) -> String {
    moments.sort_by_key(|moment| moment.delay);
    let told =
        moments.each_ref().map(|one| format!("{} ms into {}", one.delay.as_millis(), one.words));
    let when = format!("{victim:?}, {}", told.join("; "));
    println!("{when}");
    when
}

/// Does all of it at once, and kills at each moment who does that: who did it, and what came of each kill. Moments count from the beginning of each, not of the last.
fn strike(
    place: &Place,
    moments: &[Moment; 4],
    supervisors: [Option<u32>; 4],
    victim: Victim,
) -> ([Running; 4], [Kill; 4]) {
    let strike_one = |moment: &Moment, supervisor| {
        let mut doing = Running::start(place.sandbox.command(moment.words.split(' ')));
        thread::sleep(moment.delay);
        let kill = match kill(&mut doing, supervisor, victim) {
            true => Kill::Hit,
            false if doing.has_ended() => Kill::TooLate,
            false => Kill::TooEarly,
        };
        (doing, kill)
    };
    let struck = thread::scope(|scope| {
        let pairs = moments.each_ref().into_iter().zip(supervisors);
        let all: Vec<_> = pairs
            .map(|(moment, supervisor)| scope.spawn(move || strike_one(moment, supervisor)))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let (doings, kills): (Vec<_>, Vec<_>) = struck.into_iter().unzip();
    (doings.try_into().ok().unwrap(), kills.try_into().unwrap())
}

/// Whether there was somebody to be killed. The supervisor is known, or a child of who starts it.
fn kill(doing: &mut Running, supervisor: Option<u32>, victim: Victim) -> bool {
    if victim == Victim::CommandLine {
        return !doing.has_ended() && place::kill(doing.id());
    }
    let supervisor =
        supervisor.filter(|id| place::runs(*id)).or_else(|| place::child_of(doing.id()));
    let id = match victim {
        Victim::Machine => supervisor.and_then(place::child_of),
        _ => supervisor,
    };
    id.is_some_and(place::kill)
}

#[test]
fn a_command_line_is_killed_at_any_moment() {
    sweep(Victim::CommandLine);
}

#[test]
fn a_supervisor_is_killed_at_any_moment() {
    sweep(Victim::Supervisor);
}

#[test]
fn a_machine_is_killed_at_any_moment() {
    sweep(Victim::Machine);
}

/// A program with leave to do so takes its kernel down, and the agent with it, after a while.
fn doomed(delay_ms: usize) -> String {
    format!(
        "echo 2 >/proc/sys/vm/panic_on_oom; echo ready; sleep {}.{:03}; exec tail /dev/zero",
        delay_ms / 1000,
        delay_ms % 1000
    )
}

const DOOMED: [&str; 5] = ["create", "--privileged", "-m", "16m", "--name"];

const DEEDS_OF_THE_DOOMED: [&str; 7] = [
    "start -a NAME",
    "exec NAME sleep 1000",
    "stop NAME",
    "rm -f NAME",
    "commit NAME made:1",
    "logs -f NAME",
    "wait NAME",
];

#[test]
fn an_agent_goes_down_with_its_kernel_at_any_moment() {
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    let place = Place::new();
    let mut met = 0;
    for _ in 0..rounds() {
        let mut any = |name| {
            let deed = DEEDS_OF_THE_DOOMED[sample.below(DEEDS_OF_THE_DOOMED.len())];
            (name, deed.replace("NAME", name), sample.below(1000))
        };
        met += doom(&place, NAMES.map(&mut any));
    }
    place.is_as_it_was();
    println!("{met} of {} kernels went down", rounds() * NAMES.len());
    assert!(met > 0, "no kernel went down");
}

/// Does something to each of the doomed: how many of their kernels are known to have gone down.
fn doom(place: &Place, deeds: [(&str, String, usize); 4]) -> usize {
    let when = format!("{deeds:?}");
    println!("{when}");
    for (name, _, delay_ms) in &deeds {
        let script = doomed(*delay_ms);
        let words = [&DOOMED[..], &[name, "busybox", "sh", "-c", &script]].concat();
        place.sandbox.hyperrun(words).code_is(0);
    }
    thread::scope(|scope| {
        for (name, deed, _) in &deeds {
            scope.spawn(move || {
                if !deed.starts_with("start") {
                    place.does(&format!("start {name}"));
                }
                place.within(deed.split(' '));
            });
        }
    });
    place.ends(&when);
    let mut met = 0;
    // One that was stopped or removed before had no time for it.
    for name in place.within(["ps", "-a", "--format", "{{.Names}}"]).stdout.lines() {
        let end =
            place.does(&format!("inspect -f {{{{.State.ExitCode}}}}:{{{{.State.Error}}}} {name}"));
        println!("{name} {}", end.stdout);
        let has_panicked = end.stdout.contains("panic");
        met += usize::from(has_panicked);
        assert!(has_panicked || end.stdout == "137:\n", "{when}: {name} {}", end.stdout);
        place.within(["exec", name, "true"]).fails_with(1, "is not running");
    }
    place.is_true(&when, &[], &["true"]);
    place.is_cleared(&when);
    met
}
