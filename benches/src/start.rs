//! How fast containers start beside their peers, what one costs of the host, and how both grow.

mod bounds;
pub(crate) mod crowd;
mod found;
pub(crate) mod memory;
mod plot;
mod report;
pub(crate) mod stage;
mod subject;
pub(crate) mod turns;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use bounds::bounds;
use found::Found;
use stage::Stage;
use subject::{Subject, Way, subjects};
use turns::Failures;

use crate::bound;

/// Measures how fast containers start, and what they cost.
#[derive(clap::Args)]
pub(crate) struct StartArguments {
    /// How many starts of each kind.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Measure only these parts.
    #[arg(long, value_name = "PART", num_args = 1..)]
    only: Vec<Part>,
    /// Where to write what was found: medians in milliseconds and KiB, spread, growth, bounds.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to draw it, as an SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// The binary to measure.
    #[arg(long)]
    hyperrun: PathBuf,
    /// The folder that `scripts/bench` prepared.
    #[arg(long)]
    work: PathBuf,
    /// A folder to make and remove, on this machine's own file system and no overlay.
    #[arg(long)]
    stage: PathBuf,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Single starts beside those of the peers.
    Starts,
    /// Starts of guests with more and less memory, beside QEMU's.
    GuestMemory,
    /// Starts from images of more and fewer layers.
    Layers,
    /// Sixteen starts at the same time.
    AtOnce,
    /// What an idle container takes of the host's memory.
    Idle,
    /// Starts beside other running containers.
    Neighbours,
}

/// Measures part by part, and prints a table of each as soon as it is there.
///
/// # Errors
/// When something that is measured does not work.
pub(crate) fn run(arguments: &StartArguments) -> Result<(), Box<dyn Error>> {
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let runs = usize::from(arguments.runs);
    let stage = Stage::set_up(&arguments.hyperrun, &arguments.work, &arguments.stage)?;
    let mut failures = Failures::default();
    let mut found = Found::default();
    let subjects = subjects(wants);
    make_templates(&stage, &subjects)?;
    found.starts = turns::take(&stage, &subjects, runs, &mut failures)?;
    report::starts(&found);
    if wants(Part::AtOnce) {
        found.at_once = Some(crowd::at_once(&stage, runs, &mut failures)?);
        found.at_once.iter().zip(found.starts_per_second()).for_each(|(last, per_second)| {
            report::at_once(last, per_second);
        });
    }
    if wants(Part::Idle) {
        found.idle = Some(crowd::idle(&stage)?);
        found.idle.into_iter().for_each(report::idle);
    }
    if wants(Part::Neighbours) {
        found.neighbours = crowd::beside_neighbours(&stage, runs, &mut failures)?;
        report::neighbours(&found);
    }
    let bounds = bounds(&found);
    bound::print(&bounds);
    println!("\n{} starts failed and were tried again", failures.tried_again);
    failures.left_out.iter().for_each(|why| println!("left out: {why}"));
    write(arguments.json.as_deref(), || format!("{:#}\n", found.to_json(&bounds)))?;
    write(arguments.plot.as_deref(), || plot::plot(&found))
}

/// Those that the subjects go on from.
fn make_templates(stage: &Stage, subjects: &[Subject]) -> Result<(), Box<dyn Error>> {
    stage.tell("making templates");
    let from_template = subjects.iter().filter(|subject| subject.way == Way::Template);
    let wanted: BTreeSet<_> =
        from_template.map(|subject| (stage::image(*subject), subject.memory_mib)).collect();
    wanted.iter().try_for_each(|(image, memory_mib)| stage.make_templates(image, *memory_mib))
}

/// Writes what was found to where it is wanted.
///
/// # Errors
/// When that cannot be written.
pub(crate) fn write(
    file: Option<&Path>,
    content: impl FnOnce() -> String,
) -> Result<(), Box<dyn Error>> {
    let Some(file) = file else { return Ok(()) };
    fs::write(file, content())
        .map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}
