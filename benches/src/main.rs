//! Measures hyperrun beside its peers, all in one run on one machine, since only ratios within a
//! run mean something. `scripts/bench` prepares what is measured and calls this.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod memory;
mod start;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde_json::{Map, Value};

use crate::start::Places;

/// Measures how fast containers start, and what they cost.
#[derive(Parser)]
struct Arguments {
    /// How many starts of each kind.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Where to write the medians, in milliseconds and KiB.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The binary to measure.
    #[arg(long)]
    hyperrun: PathBuf,
    /// The folder that `scripts/bench` prepared.
    #[arg(long)]
    work: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let places = Places { hyperrun: &arguments.hyperrun, work: &arguments.work };
    let mut subjects = places.subjects();
    let mut times = vec![Vec::with_capacity(arguments.runs); subjects.len()];
    // One start of each that does not count fills the page cache. Then they take turns, so that
    // what the machine does beside them meets all alike.
    for round in 0..=arguments.runs {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            let time = subject.run()?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());

    let mut found = Map::new();
    println!("{:24} {:>9} {:>9} {:>9} {:>7}", "", "median", "least", "most", "ratio");
    let yardstick = median(&times[yardstick(&subjects)]);
    for (subject, times) in subjects.iter().zip(&times) {
        let median = median(times);
        let (least, most) = (times[0], times[times.len() - 1]);
        let ratio = median.as_secs_f64() / yardstick.as_secs_f64();
        let [median, least, most] = [median, least, most].map(milliseconds);
        println!(
            "{:24} {median:>6.1} ms {least:>6.1} ms {most:>6.1} ms {ratio:>7.2}",
            subject.name
        );
        found.insert(subject.key.to_owned(), Value::from(median));
    }
    let overhead = memory::overhead_kib(&arguments.hyperrun)?;
    println!("hyperrun's own processes, one container: {overhead} KiB");
    found.insert("overhead_kib".to_owned(), Value::from(overhead));
    if let Some(file) = arguments.json {
        fs::write(&file, Value::from(found).to_string())
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

/// Ratios are to the nearest peer, a bare QEMU.
fn yardstick(subjects: &[start::Subject]) -> usize {
    subjects.iter().position(|subject| subject.key == "qemu_init_ms").expect("it is one of them")
}

/// Of times in order.
fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
