//! All that was found out, as a table, JSON and bounds.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::machine::{Engine, Machine, Mover};
use super::starts;
use crate::bound::{Bound, times};
use crate::sample::{Sample, milliseconds};
use crate::table;

/// How long something may take, to QEMU with the same mover: 1/1.2 is a rate of 1.2 times its.
const MOST_ALONE: f64 = 1.0 / 1.2;
const MOST_WITH_VHOST: f64 = 1.0;
const MOST_ROUND_TRIP: f64 = 1.0;

/// Times as they come.
pub(super) struct Found(Vec<Times>);

/// Those of one machine.
struct Times {
    engine: Engine,
    mover: Mover,
    out: Vec<Duration>,
    into: Vec<Duration>,
    round_trip: Vec<Duration>,
}

/// What is said of one machine.
pub(super) struct Samples {
    engine: Engine,
    mover: Mover,
    /// A GiB out of the guest, a GiB into it, a byte there and back.
    kinds: [Sample; 3],
}

const KINDS: [(&str, &str); 3] = [
    ("out", "a GiB, guest to host"),
    ("in", "a GiB, host to guest"),
    ("round_trip", "a byte there and back"),
];

impl Found {
    pub(super) fn new(machines: &[Machine]) -> Self {
        let times = |machine: &Machine| Times {
            engine: machine.engine,
            mover: machine.mover,
            out: Vec::new(),
            into: Vec::new(),
            round_trip: Vec::new(),
        };
        Self(machines.iter().map(times).collect())
    }

    /// Takes what one turn of the `at`th machine has shown.
    pub(super) fn add(&mut self, at: usize, out: Duration, into: Duration, round_trip: Duration) {
        let times = &mut self.0[at];
        times.out.push(out);
        times.into.push(into);
        times.round_trip.push(round_trip);
    }

    pub(super) fn samples(self) -> Vec<Samples> {
        let samples = |Times { engine, mover, out, into, round_trip }| Samples {
            engine,
            mover,
            kinds: [out, into, round_trip].map(Sample::new),
        };
        self.0.into_iter().map(samples).collect()
    }
}

impl Samples {
    fn label(&self) -> String {
        let engine = match self.engine {
            Engine::Qemu => "QEMU microvm",
            Engine::Hyperrun => "hyperrun",
        };
        let mover = match self.mover {
            Mover::Device => "",
            Mover::Kernel => ", vhost",
        };
        format!("{engine}{mover}")
    }

    fn key(&self, kind: &str) -> String {
        let engine = match self.engine {
            Engine::Qemu => "qemu",
            Engine::Hyperrun => "hyperrun",
        };
        let mover = match self.mover {
            Mover::Device => "",
            Mover::Kernel => "_vhost",
        };
        format!("{engine}{mover}_{kind}_ms")
    }
}

/// QEMU's, with the same mover.
fn peer<'a>(samples: &'a [Samples], of: &Samples) -> Option<&'a Samples> {
    samples.iter().find(|other| other.engine == Engine::Qemu && other.mover == of.mover)
}

/// A table of each kind.
pub(super) fn show(samples: &[Samples]) {
    for (at, (_, title)) in KINDS.iter().enumerate() {
        table::head(title, &["to QEMU"]);
        for one in samples {
            let yardstick = peer(samples, one).map(|peer| &peer.kinds[at]);
            table::line(&one.label(), &one.kinds[at], &[yardstick]);
        }
        println!();
    }
}

/// What must hold.
pub(super) fn bounds(samples: &[Samples]) -> Vec<Bound> {
    let ours = samples.iter().filter(|one| one.engine == Engine::Hyperrun);
    let pairs = ours.filter_map(|one| Some((one, peer(samples, one)?)));
    let bounds = pairs.flat_map(|(one, peer)| {
        let flow = match one.mover {
            Mover::Device => MOST_ALONE,
            Mover::Kernel => MOST_WITH_VHOST,
        };
        let label = one.label();
        KINDS.iter().zip([flow, flow, MOST_ROUND_TRIP]).enumerate().map(
            move |(at, ((_, what), most))| {
                let ratio = one.kinds[at].ratio_to(&peer.kinds[at]);
                times(format!("{label}, {what}, to QEMU"), ratio, most)
            },
        )
    });
    bounds.collect()
}

/// Everything for the JSON file.
pub(super) fn to_json(samples: &[Samples], starts: &starts::Samples, bounds: &[Bound]) -> Value {
    let (mut all, mut spread) = (Map::new(), Map::new());
    let moved = samples.iter().flat_map(|one| {
        KINDS.iter().zip(&one.kinds).map(|((kind, _), sample)| (one.key(kind), sample))
    });
    for (key, sample) in moved.chain(starts.keyed()) {
        let [least, most] = [sample.least(), sample.most()].map(milliseconds);
        let about = json!({ "least": least, "most": most, "runs": sample.count() });
        spread.insert(key.clone(), about);
        all.insert(key, sample.median_ms().into());
    }
    all.insert("spread".to_owned(), spread.into());
    all.insert("bounds".to_owned(), bounds.iter().map(Bound::to_json).collect());
    all.into()
}
