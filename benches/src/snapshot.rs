//! What snapshots, restores and clones of a redis with much data cost, beside its start from a template:
//! from the command to the first answer, how long the original stands still, and the memory of many clones.

mod redis;
mod stage;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use self::stage::{Saved, Stage};
use crate::bound::{self, Bound};
use crate::sample::Sample;
use crate::start::turns::Failures;
use crate::start::write;
use crate::table;

/// Measures snapshots.
#[derive(clap::Args)]
pub(crate) struct SnapshotArguments {
    /// How often each thing is done.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// How many clones there are beside each other in the end; 0 leaves them out.
    #[arg(long, default_value_t = 32)]
    clones: u16,
    /// Where to write what was found: medians in milliseconds, bounds.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The binary to measure.
    #[arg(long)]
    hyperrun: PathBuf,
    /// An archive with the image of services.
    #[arg(long)]
    image: PathBuf,
    /// A folder to make and remove, on this machine's own file system and no overlay.
    #[arg(long)]
    stage: PathBuf,
}

/// Starts until all that is made for later ones beside the first is made.
const WARM_UPS: u16 = 5;
/// How long 100 MB may take to be made or loaded, in an emulated guest.
const LONG: Duration = Duration::from_secs(120);

/// What is measured by its first answer of a redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// A redis without data, from the template of its image.
    Start,
    /// The first restore of a snapshot.
    Restore,
    /// A clone of a container that was saved before.
    Clone,
    /// A clone of a container of which there is no snapshot.
    FirstClone,
}

/// Measures, and prints a table.
///
/// # Errors
/// When something that is measured does not work.
pub(crate) fn run(arguments: &SnapshotArguments) -> Result<(), Box<dyn Error>> {
    let stage = Stage::set_up(arguments)?;
    let mut failures = Failures::default();
    for _ in 0..WARM_UPS {
        failures.forgive(|| stage.time_to_answer(Subject::Start))?;
    }
    let found = take_turns(&stage, arguments.runs, &mut failures)?;
    found.print();
    let mut bounds = found.bounds();
    for saved in [Saved::Original, Saved::Copy] {
        bounds.push(failures.forgive(|| stage.save_once_more(saved))?);
    }
    if arguments.clones > 0 {
        bounds.push(failures.forgive(|| stage.crowd(arguments.clones))?);
    }
    bound::print(&bounds);
    println!("\n{} attempts failed and were tried again", failures.tried_again);
    write(arguments.json.as_deref(), || {
        let medians: Vec<_> = found.0.iter().map(Sample::median_ms).collect();
        let bounds: Vec<_> = bounds.iter().map(Bound::to_json).collect();
        format!("{:#}\n", json!({ "names": NAMES, "medians_ms": medians, "bounds": bounds }))
    })
}

/// Does each thing so often; the first round warms up.
fn take_turns(
    stage: &Stage<'_>,
    runs: u16,
    failures: &mut Failures,
) -> Result<Found, Box<dyn Error>> {
    let mut times: [Vec<Duration>; NAMES.len()] = Default::default();
    for round in 0..=runs {
        eprintln!("==> round {round} of {runs}");
        let mut answer = |subject| failures.forgive(|| stage.time_to_answer(subject));
        let first_clone = answer(Subject::FirstClone)?;
        let start = answer(Subject::Start)?;
        let (pause, written) = failures.forgive(|| stage.snapshot())?;
        let plain = stage.time_to_write(written)?;
        let mut answer = |subject| failures.forgive(|| stage.time_to_answer(subject));
        let (restore, clone) = (answer(Subject::Restore)?, answer(Subject::Clone)?);
        let word = failures.forgive(|| stage.time_to_word())?;
        let taken = [start, restore, clone, first_clone, pause, plain, word];
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(times, time)| times.push(time));
        }
    }
    Ok(Found(times.map(Sample::new)))
}

/// What was found.
struct Found([Sample; NAMES.len()]);

/// What of it is what.
const NAMES: [&str; 7] = [
    "start from a template",
    "restore of a snapshot",
    "clone",
    "clone of what was never saved",
    "the original stands still",
    "a program that writes as much",
    "start from a template, to a word",
];

impl Found {
    fn print(&self) {
        let [start, .., word] = &self.0;
        table::head("redis with 100 MB in 512 MiB", &["start", "word"]);
        for (name, sample) in NAMES.iter().zip(&self.0) {
            table::line(name, sample, &[Some(start), Some(word)]);
        }
    }

    fn bounds(&self) -> Vec<Bound> {
        let [start, restore, clone, first_clone, pause, _, word] = &self.0;
        let bounds = [
            ("a restore, as a start", restore.ratio_to(start), 2.0),
            ("a restore, as a start to a word", restore.ratio_to(word), 2.0),
            ("a clone, as a start", clone.ratio_to(start), 2.0),
            ("a clone, as a start to a word", clone.ratio_to(word), 2.0),
            ("a clone of what was never saved, as a start", first_clone.ratio_to(start), 2.0),
            ("the pause, as a start", pause.ratio_to(start), 1.5),
            ("the pause, as a start to a word", pause.ratio_to(word), 1.5),
        ];
        let bound =
            |(what, value, most): (&str, f64, f64)| bound::times(what.to_owned(), value, most);
        bounds.map(bound).into()
    }
}
