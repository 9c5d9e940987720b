//! A number that may not be above another.

use serde_json::{Value, json};

/// What was promised about a number, and the number.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) most: f64,
    pub(crate) unit: &'static str,
}

impl Bound {
    /// Whether it is kept.
    pub(crate) fn holds(&self) -> bool {
        self.value <= self.most
    }

    /// A line for a person.
    pub(crate) fn to_line(&self) -> String {
        let Bound { what, value, most, unit } = self;
        let verdict = if self.holds() { "holds" } else { "DOES NOT HOLD" };
        format!("{what:60} {value:>9.2}  at most {most:>8.2} {unit:6}  {verdict}")
    }

    /// For the JSON file.
    pub(crate) fn to_json(&self) -> Value {
        let Bound { what, value, most, unit } = self;
        json!({ "what": what, "value": value, "most": most, "unit": unit, "holds": self.holds() })
    }
}

/// How many times as long something takes.
pub(crate) fn times(what: String, value: f64, most: f64) -> Bound {
    Bound { what, value, most, unit: "times" }
}

/// How much memory something takes.
pub(crate) fn mebibytes(what: String, kib: u64, most_kib: u64) -> Bound {
    let [value, most] = [kib, most_kib].map(mib);
    Bound { what, value, most, unit: "MiB" }
}

/// All of them, for a person.
pub(crate) fn print(bounds: &[Bound]) {
    println!("must hold");
    bounds.iter().for_each(|bound| println!("{}", bound.to_line()));
}

#[expect(clippy::cast_precision_loss, reason = "a process has far less than 2^53 KiB")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
