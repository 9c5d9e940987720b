//! How fast containers start beside their peers, and what one costs of the host.

mod memory;
mod subject;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::table;
use subject::{Places, Subject};

/// Measures how fast containers start, and what they cost.
#[derive(clap::Args)]
pub(crate) struct StartArguments {
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

/// Takes turns and prints the table.
///
/// # Errors
/// When something that is measured does not work.
pub(crate) fn run(arguments: &StartArguments) -> Result<(), Box<dyn Error>> {
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
    table::head("");
    let yardstick = table::median(&times[yardstick(&subjects)]);
    for (subject, times) in subjects.iter().zip(&times) {
        table::line(subject.name, times, yardstick);
        let median = table::milliseconds(table::median(times));
        found.insert(subject.key.to_owned(), Value::from(median));
    }
    let overhead = memory::overhead_kib(&arguments.hyperrun)?;
    println!("hyperrun's own processes, one container: {overhead} KiB");
    found.insert("overhead_kib".to_owned(), Value::from(overhead));
    if let Some(file) = &arguments.json {
        fs::write(file, Value::from(found).to_string())
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

/// Ratios are to the nearest peer, a bare QEMU.
fn yardstick(subjects: &[Subject]) -> usize {
    subjects.iter().position(|subject| subject.key == "qemu_init_ms").expect("it is one of them")
}
