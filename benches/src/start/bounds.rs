//! What must hold of the measured numbers, and whether it did.

use super::found::{Found, Line};
use super::subject::{Subject, Way};
use crate::bound::{Bound, mebibytes, times};

/// How much longer a start may take at the end of what grows.
const MOST_GROWTH: f64 = 1.10;
const MOST_OWN_KIB: u64 = 5 << 10;
const MOST_PRIVATE_KIB: u64 = 8 << 10;

/// Those about what was measured.
pub(crate) fn bounds(found: &Found) -> Vec<Bound> {
    let mut bounds = ratios(found);
    for growth in found.growths() {
        for line in &growth.lines {
            let steps =
                format!("from {} to {}", line.steps[0].0, line.steps[line.steps.len() - 1].0);
            if line.way == Way::Template {
                let what = format!("a start from a template, {}: {steps}", growth.label);
                bounds.push(times(what, line.growth(), MOST_GROWTH));
            }
        }
        bounds.extend(steepness(&growth.lines));
    }
    if let Some(idle) = found.idle {
        let own = "hyperrun's own processes for one container".to_owned();
        bounds.push(mebibytes(own, idle.own_kib, MOST_OWN_KIB));
        let private = "private memory of an idle container".to_owned();
        bounds.push(mebibytes(private, idle.private_kib, MOST_PRIVATE_KIB));
    }
    bounds
}

/// Of starts to those of the peers.
fn ratios(found: &Found) -> Vec<Bound> {
    let app = |way| found.app(Subject::new(way));
    let ready = || Some(&found.shown(Subject::new(Way::Cold))?.machine.as_ref()?.1);
    let compared = [
        ("first byte from a template, to crun's", app(Way::Template), app(Way::Crun), 2.0),
        ("first byte from a template, to QEMU's init", app(Way::Template), app(Way::Qemu), 0.25),
        ("first byte when booted, to QEMU's init", app(Way::Cold), app(Way::Qemu), 0.8),
        ("agent ready when booted, to QEMU's init", ready(), app(Way::Qemu), 0.65),
    ];
    let bound = |(what, ours, theirs, most): (&str, Option<_>, Option<_>, f64)| {
        Some(times(what.to_owned(), crate::sample::Sample::ratio_to(ours?, theirs?), most))
    };
    compared.into_iter().filter_map(bound).collect()
}

/// A boot must not grow faster with the guest's memory than QEMU's.
fn steepness(lines: &[Line]) -> Option<Bound> {
    let per_gibibyte = |way| {
        let line: &Line = lines.iter().find(|line| line.way == way)?;
        Some(line.slope_ms() * 1024.0)
    };
    Some(Bound {
        what: "a boot's growth with guest memory, beside QEMU's".to_owned(),
        value: per_gibibyte(Way::Cold)?,
        most: per_gibibyte(Way::Qemu)?,
        unit: "ms/GiB",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::found::tests::example;

    #[test]
    fn every_promise_is_judged() {
        let bounds = bounds(&example());
        assert_eq!(bounds.len(), 4 + 3 + 1 + 2);
        let verdict = |what: &str| bounds.iter().find(|it| it.what.contains(what)).unwrap().holds();
        assert!(verdict("own processes"), "5 MiB are not above 5 MiB");
        assert!(!verdict("idle container"), "9000 KiB are above 8 MiB");
        assert!(verdict("running containers"), "110 ms are not above 1.10 times 100 ms");
        assert!(!verdict("crun"), "100 ms are above twice 40 ms");
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert!(bounds(&Found::default()).is_empty());
        let mut found = example();
        found.starts.retain(|(subject, _)| subject.way == Way::Template);
        let judged = bounds(&found);
        assert!(judged.iter().all(|bound| !bound.what.contains("QEMU")));
        assert_eq!(judged.len(), 3 + 2);
    }
}
