//! Whoever is killed, at whatever moment: `ps -a` is true afterwards, and `rm -f` leaves nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a failed test shows its seed and what it has met")]

mod place;

use std::thread;
use std::time::Duration;

use hyperrun_tests::{Running, Sample, sample_size};

use place::Place;

/// Moments tried with `HYPERRUN_TEST_FULL`, of each one who is killed.
const MOMENTS: usize = 30;

/// What is being done to the container `one` when somebody is killed.
struct Deed {
    words: &'static str,
    /// What made the container before.
    before: Before,
    /// About how long it takes in the lab, in milliseconds; a kill comes at any moment of it.
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
    deed("run -d --name one busybox sleep 1000", Before::Nothing, 600),
    deed("run --rm --name one busybox sleep 1000", Before::Nothing, 600),
    deed("create --name one busybox sleep 1000", Before::Nothing, 150),
    deed("start one", Before::Created, 500),
    deed("exec one sleep 0.1", Before::Running, 300),
    deed("stop -t 0 one", Before::Running, 250),
    deed("rm -f one", Before::Running, 300),
    deed("rm one", Before::Created, 100),
    deed("commit one made:1", Before::Running, 800),
];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    CommandLine,
    Supervisor,
    Machine,
}

/// Kills one at random moments of random deeds, and judges what is left each time.
fn sweep(victim: Victim) {
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    let place = Place::new();
    // Whoever makes no machine has none to lose.
    let deeds: Vec<&Deed> = DEEDS
        .iter()
        .filter(|deed| {
            victim == Victim::CommandLine
                || deed.before == Before::Running
                || !(deed.words.starts_with("create") || deed.words.starts_with("rm "))
        })
        .collect();
    let (mut hits, kills) = (0, sample_size(MOMENTS));
    for _ in 0..kills {
        let deed = deeds[sample.below(deeds.len())];
        let delay_ms = sample.below(deed.takes_ms);
        let when = format!("{victim:?}, {delay_ms} ms into {}", deed.words);
        println!("{when}");
        match deed.before {
            Before::Nothing => {}
            Before::Created => drop(place.does("create --name one busybox sleep 1000")),
            Before::Running => drop(place.does("run -d --name one busybox sleep 1000")),
        }
        let doing = Running::start(place.sandbox.command(deed.words.split(' ')));
        thread::sleep(Duration::from_millis(delay_ms as u64));
        hits += usize::from(kill(&place, &doing, victim));
        // One that is attached, and not hit or tried again without a template, goes on until it is removed.
        if deed.words.starts_with("run --rm") {
            place.settles(&when);
            place.is_true(&when);
            place.is_cleared(&when);
            doing.finish_alone();
        } else {
            doing.finish_alone();
            place.is_true(&when);
            place.is_cleared(&when);
        }
    }
    place.is_as_it_was();
    println!("{hits} of {kills} hit somebody");
    assert!(hits * 2 >= kills, "most kills came too late: {hits} of {kills}");
}

/// Whether there was somebody to be killed.
fn kill(place: &Place, doing: &Running, victim: Victim) -> bool {
    let processes = place.processes();
    let machine = processes.iter().find(|one| {
        one.parent != doing.id() && processes.iter().any(|other| other.id == one.parent)
    });
    let id = match victim {
        Victim::CommandLine => Some(doing.id()),
        Victim::Machine => machine.map(|machine| machine.id),
        Victim::Supervisor => machine.map(|machine| machine.parent),
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

const DOOMED: [&str; 7] = ["create", "--privileged", "-m", "16m", "--name", "one", "busybox"];

#[test]
fn an_agent_goes_down_with_its_kernel_at_any_moment() {
    let mut sample = Sample::of_this_run();
    println!("seed {}", sample.seed());
    let place = Place::new();
    let mut met = 0;
    let deeds = [
        "start -a one",
        "exec one sleep 1000",
        "stop one",
        "rm -f one",
        "commit one made:1",
        "logs -f one",
        "wait one",
    ];
    for _ in 0..sample_size(MOMENTS) {
        let deed = deeds[sample.below(deeds.len())];
        let script = doomed(sample.below(600));
        let when = format!("{script} while {deed}");
        println!("{when}");
        place.sandbox.hyperrun([&DOOMED[..], &["sh", "-c", &script]].concat()).code_is(0);
        if deed != "start -a one" {
            place.does("start one");
        }
        place.within(deed.split(' '));
        place.ends(&when);
        // One that was stopped or removed before had no time for it.
        if !place.within(["ps", "-aq"]).stdout.is_empty() {
            let end = place.does("inspect -f {{.State.ExitCode}}:{{.State.Error}} one").stdout;
            println!("{end}");
            met += usize::from(end.contains("panic"));
            assert!(end.contains("panic") || end == "137:\n", "{when}: {end}");
            place.within(["exec", "one", "true"]).fails_with(1, "is not running");
        }
        place.is_true(&when);
        place.is_cleared(&when);
    }
    place.is_as_it_was();
    assert!(met > 0, "no kernel went down");
}
