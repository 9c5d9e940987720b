//! All that a measurement has found, as numbers that tables, bounds, files and plots are made of.

use serde_json::{Map, Value, json};

use super::crowd::AT_ONCE;
use super::memory::Footprint;
use super::subject::{LAYERS, MEMORIES_MIB, Subject, Way};
use super::turns::Shown;
use crate::bound::Bound;
use crate::sample::{Sample, milliseconds};

/// What was not measured is empty.
#[derive(Default)]
pub(crate) struct Found {
    /// What took turns.
    pub(crate) starts: Vec<(Subject, Shown)>,
    /// Until the last of [`AT_ONCE`] has written.
    pub(crate) at_once: Option<Sample>,
    /// Of one idle container.
    pub(crate) idle: Option<Footprint>,
    /// Running containers, and a start beside them.
    pub(crate) neighbours: Vec<(usize, Sample)>,
}

/// What grows, and how long a start takes at each step of it.
pub(crate) struct Growth {
    /// The key in the JSON file.
    pub(crate) of: &'static str,
    /// What a person reads.
    pub(crate) label: &'static str,
    /// Never empty.
    pub(crate) lines: Vec<Line>,
}

/// How one way to start grows.
pub(crate) struct Line {
    pub(crate) way: Way,
    /// Each step with its times; two at least.
    pub(crate) steps: Vec<(usize, Sample)>,
}

impl Line {
    /// How many times as long as at the first step it takes at the last one.
    pub(crate) fn growth(&self) -> f64 {
        self.steps[self.steps.len() - 1].1.ratio_to(&self.steps[0].1)
    }

    /// How steep it is: milliseconds for each step of one, by least squares over the medians.
    pub(crate) fn slope_ms(&self) -> f64 {
        let points: Vec<(f64, f64)> =
            self.steps.iter().map(|(step, sample)| (real(*step), sample.median_ms())).collect();
        let mean =
            |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / real(points.len());
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        both / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
    }
}

#[expect(clippy::cast_precision_loss, reason = "steps are small numbers")]
fn real(step: usize) -> f64 {
    step as f64
}

impl Found {
    /// What one way to start has shown, if it was measured.
    pub(crate) fn shown(&self, subject: Subject) -> Option<&Shown> {
        self.starts.iter().find(|(other, _)| *other == subject).map(|(_, shown)| shown)
    }

    /// The times of its first byte.
    pub(crate) fn app(&self, subject: Subject) -> Option<&Sample> {
        self.shown(subject).map(|shown| &shown.app)
    }

    /// Starts in a second, of those at once.
    pub(crate) fn starts_per_second(&self) -> Option<f64> {
        let last = self.at_once.as_ref()?.median();
        Some(f64::from(u32::try_from(AT_ONCE).ok()?) / last.as_secs_f64())
    }

    /// How starts grow, with all that was measured.
    pub(crate) fn growths(&self) -> Vec<Growth> {
        let memory = [Way::Template, Way::Cold, Way::Qemu]
            .map(|way| self.line(way, &MEMORIES_MIB, |mib| Subject::new(way).with_memory(mib)));
        let layers = self
            .line(Way::Template, &LAYERS, |count| Subject::new(Way::Template).with_layers(count));
        let steps = self.neighbours.clone();
        let neighbours = (steps.len() > 1).then_some(Line { way: Way::Template, steps });
        let growths = [
            ("guest_memory_mib", "guest memory, MiB", memory.into_iter().flatten().collect()),
            ("layers", "layers of the image", Vec::from_iter(layers)),
            ("running_containers", "running containers", Vec::from_iter(neighbours)),
        ];
        let growths = growths.map(|(of, label, lines)| Growth { of, label, lines });
        growths.into_iter().filter(|growth| !growth.lines.is_empty()).collect()
    }

    fn line(&self, way: Way, steps: &[u32], subject: impl Fn(u32) -> Subject) -> Option<Line> {
        let measured = |step: &u32| Some((*step as usize, self.app(subject(*step))?.clone()));
        let steps: Vec<_> = steps.iter().filter_map(measured).collect();
        (steps.len() > 1).then_some(Line { way, steps })
    }

    /// Everything for the JSON file: medians under the keys that stay, then how far the times lie
    /// apart, how they grow, and what must hold.
    pub(crate) fn to_json(&self, bounds: &[Bound]) -> Value {
        let (mut all, mut spread) = (Map::new(), Map::new());
        let mut note = |key: String, sample: &Sample| {
            let [least, most] = [sample.least(), sample.most()].map(milliseconds);
            let about = json!({ "least": least, "most": most, "runs": sample.count() });
            spread.insert(key.clone(), about);
            all.insert(key, sample.median_ms().into());
        };
        for (subject, shown) in self.starts.iter().filter(|(subject, _)| subject.is_usual()) {
            let key = subject.key();
            match &shown.machine {
                None => note(format!("{key}_ms"), &shown.app),
                Some((running, ready)) => {
                    note(format!("{key}_vm_ms"), running);
                    note(format!("{key}_agent_ms"), ready);
                    note(format!("{key}_app_ms"), &shown.app);
                }
            }
        }
        if let Some(last) = &self.at_once {
            note("sixteen_at_once_ms".to_owned(), last);
        }
        all.extend(self.starts_per_second().map(|rate| ("starts_per_second".into(), rate.into())));
        if let Some(idle) = self.idle {
            all.insert("idle_private_kib".to_owned(), idle.private_kib.into());
            all.insert("idle_guest_private_kib".to_owned(), idle.guest_private_kib.into());
            all.insert("idle_shared_kib".to_owned(), idle.shared_kib.into());
            all.insert("supervisor_overhead_kib".to_owned(), idle.own_kib.into());
        }
        let growth =
            self.growths().into_iter().map(|growth| (growth.of.to_owned(), growth.to_json()));
        all.insert("spread".to_owned(), spread.into());
        all.insert("growth".to_owned(), growth.collect());
        all.insert("must_hold".to_owned(), bounds.iter().map(Bound::to_json).collect());
        all.into()
    }
}

impl Growth {
    /// For each way, the medians in milliseconds by step.
    fn to_json(&self) -> Value {
        let line = |line: &Line| {
            let steps = line.steps.iter();
            let medians = steps.map(|(step, sample)| (step.to_string(), sample.median_ms().into()));
            let suffix = if line.way == Way::Qemu { "_ms" } else { "_app_ms" };
            (Subject::new(line.way).key() + suffix, Value::Object(medians.collect()))
        };
        self.lines.iter().map(line).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::start::Part;
    use crate::start::subject::subjects;
    use std::time::Duration;

    /// As if every start of the `n`th subject took `n + 1` times 10 ms.
    pub(crate) fn example() -> Found {
        let sample = |n: u64| Sample::new(vec![Duration::from_millis(10 * (n + 1)); 7]);
        let shown = |(n, subject): (u64, Subject)| {
            let machine = subject.way.is_hyperrun();
            let machine = machine.then(|| (sample(0), sample(n / 2)));
            (subject, Shown { app: sample(n), machine })
        };
        Found {
            starts: (0..).zip(subjects(|_| true)).map(shown).collect(),
            at_once: Some(sample(99)),
            idle: Some(Footprint { private_kib: 9000, own_kib: 5120, ..Footprint::default() }),
            neighbours: vec![(0, sample(9)), (50, sample(10))],
        }
    }

    #[test]
    fn the_file_has_every_key_that_is_promised() {
        let value = example().to_json(&[]);
        let promised = "true_ms crun_run_ms podman_run_ms qemu_init_ms cold_vm_ms cold_agent_ms \
                        cold_app_ms template_vm_ms template_agent_ms template_app_ms \
                        idle_private_kib supervisor_overhead_kib starts_per_second";
        for key in promised.split_whitespace() {
            assert!(value[key].is_number(), "no {key}");
        }
        assert_eq!(value["starts_per_second"], 16.0);
        assert_eq!(value["growth"]["running_containers"]["template_app_ms"]["50"], 110.0);
        assert_eq!(value["spread"]["true_ms"]["runs"], 7);
        let nothing = Found::default().to_json(&[]);
        assert_eq!(nothing, json!({ "spread": {}, "growth": {}, "must_hold": [] }));
    }

    #[test]
    fn growth_is_the_last_to_the_first_and_a_slope() {
        let sample = |ms| Sample::new(vec![Duration::from_millis(ms)]);
        let steps = vec![(1, sample(10)), (2, sample(30)), (3, sample(50))];
        let line = Line { way: Way::Cold, steps };
        assert!((line.growth() - 5.0).abs() < 1e-9);
        assert!((line.slope_ms() - 20.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_measured_does_not_grow() {
        let starts = subjects(|part| part == Part::Starts);
        let mut found = example();
        found.starts.retain(|(subject, _)| starts.contains(subject));
        let of: Vec<_> = found.growths().iter().map(|growth| growth.of).collect();
        assert_eq!(of, ["running_containers"]);
    }
}
