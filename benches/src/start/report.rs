//! What a measurement has found, as tables for a person.

use super::crowd::AT_ONCE;
use super::found::Found;
use super::memory::Footprint;
use super::subject::{Subject, Way};
use crate::sample::Sample;
use crate::table;

/// Everything that took turns: hyperrun's with a line for each of their clocks.
pub(crate) fn starts(found: &Found) {
    if found.starts.is_empty() {
        return;
    }
    let yardsticks = [Way::Crun, Way::Qemu].map(|way| found.app(Subject::new(way)));
    table::head("to the first byte", &["to crun", "to QEMU"]);
    for (subject, shown) in &found.starts {
        let label = subject.label();
        if let Some((running, ready)) = shown.machine.as_ref().filter(|_| subject.is_usual()) {
            table::line(&label, &shown.app, &yardsticks);
            table::line("    machine running", running, &yardsticks);
            table::line("    agent ready", ready, &yardsticks);
        } else {
            table::line(&label, &shown.app, &yardsticks);
        }
    }
    println!();
}

/// The ones that were started at the same time.
pub(crate) fn at_once(last: &Sample, per_second: f64) {
    table::head(&format!("{AT_ONCE} at once"), &[]);
    table::line("first byte of the last", last, &[]);
    println!("{per_second:.2} starts per second\n");
}

/// One idle container.
pub(crate) fn idle(idle: Footprint) {
    println!("one idle container, mean of some that run together");
    let lines = [
        ("private", idle.private_kib),
        ("of which guest memory", idle.guest_private_kib),
        ("shared", idle.shared_kib),
        ("own processes, guest memory apart", idle.own_kib),
    ];
    lines.iter().for_each(|(name, kib)| println!("{name:42} {kib:>7} KiB"));
    println!();
}

/// Starts beside running containers.
pub(crate) fn neighbours(found: &Found) {
    let Some((_, alone)) = found.neighbours.first() else { return };
    table::head("beside running containers", &["to none"]);
    for (count, sample) in &found.neighbours {
        table::line(&format!("hyperrun run, {count} others"), sample, &[Some(alone)]);
    }
    println!();
}
