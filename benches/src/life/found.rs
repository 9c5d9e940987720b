//! All that was found out, as tables, JSON and bounds.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::bound::{Bound, mebibytes, times};
use crate::sample::{Sample, milliseconds};
use crate::table;

/// How much longer than a `crun exec` an `exec` may take, and so on: what is measured, what it is
/// compared with, and how many times as long it may take.
const RATIOS: [(&str, &str, &str, f64); 6] = [
    ("exec, to crun exec", "exec", "crun_exec", 0.75),
    ("ps with 50 containers, to the binary's start", "ps", "version", 3.0),
    ("stop, to exec", "stop", "exec", 1.5),
    ("attach without a log, to crun run", "attach", "crun_run", 4.0),
    ("attach with a log, to crun run", "attach_logged", "crun_run", 4.0),
    ("logs -f, to podman's", "logs", "podman_logs", 1.0),
];
/// The most memory of one process that moves output.
const MOST_KIB: u64 = 8 << 10;

/// What takes a time.
pub(crate) struct Timed {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) times: Sample,
}

/// Output that was read from its first byte to its last.
pub(crate) struct Flood {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) mib: u32,
    pub(crate) times: Sample,
    /// Of hyperrun only.
    pub(crate) memory: Option<Memory>,
}

/// The most memory of processes that move output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) client_kib: u64,
    pub(crate) supervisor_kib: u64,
}

/// What was not measured is not there.
#[derive(Default)]
pub(crate) struct Found {
    samples: Vec<(&'static str, Sample)>,
    memory: Vec<(&'static str, &'static str, Memory)>,
    mib: Map<String, Value>,
}

impl Found {
    /// Takes times, and shows them.
    pub(crate) fn add_times(&mut self, times: Vec<Timed>) {
        let first = times.first().map(|timed| timed.times.clone());
        table::head("to the end", &["to first"]);
        for timed in times {
            table::line(timed.label, &timed.times, &[first.as_ref()]);
            self.samples.push((timed.key, timed.times));
        }
        println!();
    }

    /// Takes floods, and shows them.
    pub(crate) fn add_floods(&mut self, floods: Vec<Flood>) {
        let first = floods.first().map(|flood| flood.times.clone());
        table::head("from the first byte to the last", &["to first"]);
        for flood in &floods {
            table::line(flood.label, &flood.times, &[first.as_ref()]);
        }
        for flood in floods {
            let rate = rate(flood.mib, flood.times.median());
            print!("{:42} {:>4} MiB, {rate:>7.1} MiB/s", flood.label, flood.mib);
            if let Some(Memory { client_kib, supervisor_kib }) = flood.memory {
                print!(", client {client_kib} KiB, supervisor {supervisor_kib} KiB at most");
                self.memory.extend(flood.memory.map(|memory| (flood.key, flood.label, memory)));
            }
            println!();
            self.mib.insert(flood.key.to_owned(), flood.mib.into());
            self.samples.push((flood.key, flood.times));
        }
        println!();
    }

    /// What must hold of what was measured.
    pub(crate) fn bounds(&self) -> Vec<Bound> {
        let sample =
            |key| self.samples.iter().find(|(name, _)| *name == key).map(|(_, sample)| sample);
        let mut bounds: Vec<Bound> = RATIOS
            .into_iter()
            .filter_map(|(what, ours, theirs, most)| {
                let ratio = sample(ours)?.ratio_to(sample(theirs)?);
                Some(times(what.to_owned(), ratio, most))
            })
            .collect();
        for (_, label, memory) in &self.memory {
            let client = format!("most memory of {label}");
            bounds.push(mebibytes(client, memory.client_kib, MOST_KIB));
            let supervisor = format!("most memory of its supervisor, {label}");
            bounds.push(mebibytes(supervisor, memory.supervisor_kib, MOST_KIB));
        }
        bounds
    }

    /// Everything for the JSON file.
    pub(crate) fn to_json(&self, bounds: &[Bound]) -> Value {
        let (mut all, mut spread) = (Map::new(), Map::new());
        for (key, sample) in &self.samples {
            let key = format!("{key}_ms");
            let [least, most] = [sample.least(), sample.most()].map(milliseconds);
            let about = json!({ "least": least, "most": most, "runs": sample.count() });
            spread.insert(key.clone(), about);
            all.insert(key, sample.median_ms().into());
        }
        for (key, _, memory) in &self.memory {
            all.insert(format!("{key}_client_kib"), memory.client_kib.into());
            all.insert(format!("{key}_supervisor_kib"), memory.supervisor_kib.into());
        }
        all.insert("mib".into(), self.mib.clone().into());
        all.insert("spread".into(), spread.into());
        all.insert("must_hold".into(), bounds.iter().map(Bound::to_json).collect());
        all.into()
    }
}

fn rate(mib: u32, time: Duration) -> f64 {
    f64::from(mib) / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: u64) -> Sample {
        Sample::new(vec![Duration::from_millis(ms)])
    }

    #[test]
    fn what_was_measured_is_judged_and_nothing_else() {
        let mut found = Found::default();
        assert!(found.bounds().is_empty());
        let timed = |key, ms| Timed { key, label: key, times: sample(ms) };
        found.add_times(vec![timed("crun_exec", 100), timed("exec", 80), timed("stop", 100)]);
        let memory = Some(Memory { client_kib: 8 << 10, supervisor_kib: 9 << 10 });
        let flood = |key, ms, memory| Flood { key, label: key, mib: 64, times: sample(ms), memory };
        found.add_floods(vec![flood("podman_logs", 50, None), flood("logs", 50, memory)]);
        let verdicts: Vec<bool> = found.bounds().iter().map(Bound::holds).collect();
        assert_eq!(verdicts, [false, true, true, true, false]);
        let told = found.to_json(&found.bounds());
        assert_eq!(told["exec_ms"], 80.0);
        assert_eq!(
            (&told["mib"]["logs"], &told["logs_supervisor_kib"]),
            (&64.into(), &9216.into())
        );
        assert_eq!(told["must_hold"].as_array().unwrap().len(), 5);
    }
}
