//! How fast what is done to a running container is, beside its peers, and how fast what its program
//! writes comes out.

mod commands;
mod flood;
mod found;

use std::error::Error;
use std::path::PathBuf;

use crate::bound;
use crate::start::stage::Stage;
use crate::start::turns::Failures;
use crate::start::write;

use found::Found;

/// Measures a container's life.
#[derive(clap::Args)]
pub(crate) struct LifeArguments {
    /// How often each thing is done.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// How much a program writes, in MiB; to a log a quarter of that.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..))]
    mib: u32,
    /// Measure only these parts.
    #[arg(long, value_name = "PART", num_args = 1..)]
    only: Vec<Part>,
    /// Where to write what was found: medians in milliseconds and KiB, spread, bounds.
    #[arg(long)]
    json: Option<PathBuf>,
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
enum Part {
    /// `exec` and `stop`, beside `crun exec`.
    Commands,
    /// `ps` with many containers, beside the start of the binary.
    Ps,
    /// The output of a program that is attached to, beside that of `crun run`.
    Attach,
    /// The log of a program, beside that of `podman`.
    Logs,
}

/// Measures part by part, and prints a table of each as soon as it is there.
///
/// # Errors
/// When something that is measured does not work.
pub(crate) fn run(arguments: &LifeArguments) -> Result<(), Box<dyn Error>> {
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let runs = usize::from(arguments.runs);
    let stage = Stage::set_up(&arguments.hyperrun, &arguments.work, &arguments.stage)?;
    let mut failures = Failures::default();
    let mut found = Found::default();
    if wants(Part::Commands) {
        found.add_times(commands::exec_and_stop(&stage, runs, &mut failures)?);
    }
    if wants(Part::Attach) {
        found.add_floods(flood::attach(&stage, runs, arguments.mib, &mut failures)?);
    }
    if wants(Part::Logs) {
        found.add_floods(flood::logs(&stage, runs, arguments.mib / 4, &mut failures)?);
    }
    if wants(Part::Ps) {
        found.add_times(commands::ps(&stage, runs, &mut failures)?);
    }
    let bounds = found.bounds();
    bound::print(&bounds);
    println!("\n{} attempts failed and were tried again", failures.tried_again);
    write(arguments.json.as_deref(), || format!("{:#}\n", found.to_json(&bounds)))
}
