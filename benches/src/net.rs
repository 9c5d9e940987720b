//! How fast bytes get into a guest, out of it, and there and back, beside QEMU's microvm with the same
//! kernel over a tap: each with the host's kernel at work in the device's place (vhost-net) and without. And
//! what a network adds to a start.

mod found;
mod machine;
mod starts;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use crate::bound;
use crate::start::turns::Failures;
use crate::start::write;

use found::Found;
use machine::{Engine, Machine, Mover};

/// Measures a guest's network.
#[derive(clap::Args)]
pub(crate) struct NetArguments {
    /// How often each thing is done.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// How long bytes flow each time, in seconds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// How often a container is started with a network and without.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
    starts: u16,
    /// Where to write what was found: medians in milliseconds, spread, bounds.
    #[arg(long)]
    json: Option<PathBuf>,
    /// hyperrun's machine as a program.
    #[arg(long)]
    boot: PathBuf,
    /// The kernel of all guests.
    #[arg(long)]
    kernel: PathBuf,
    /// Their initial file system.
    #[arg(long)]
    initramfs: PathBuf,
    /// The binary whose starts are measured.
    #[arg(long)]
    hyperrun: PathBuf,
    /// A data folder with its image.
    #[arg(long)]
    root: PathBuf,
    /// A folder to make and remove, on this machine's own file system and no overlay.
    #[arg(long)]
    stage: PathBuf,
}

/// What is compared.
const SUBJECTS: [(Engine, Mover); 4] = [
    (Engine::Qemu, Mover::Device),
    (Engine::Hyperrun, Mover::Device),
    (Engine::Qemu, Mover::Kernel),
    (Engine::Hyperrun, Mover::Kernel),
];

/// Starts containers, boots a machine of each kind, lets them take turns, and prints a table of what was
/// found.
///
/// # Errors
/// When something that is measured does not work.
pub(crate) fn run(arguments: &NetArguments) -> Result<(), Box<dyn Error>> {
    let mut failures = Failures::default();
    let NetArguments { hyperrun, root, stage, .. } = arguments;
    // Before there is anybody beside them.
    let starts = starts::measure(hyperrun, root, stage, arguments.starts, &mut failures)?;
    starts.show();
    let mut machines = Vec::new();
    for (number, (engine, mover)) in (1..).zip(SUBJECTS) {
        machines.push(Machine::boot(arguments, number, engine, mover)?);
    }
    let duration = Duration::from_secs(arguments.seconds.into());
    let mut found = Found::new(&machines);
    for round in 0..=arguments.runs {
        eprintln!("==> round {round} of {}", arguments.runs);
        for (at, machine) in machines.iter().enumerate() {
            let out = failures.forgive(|| machine.flow_out(duration))?;
            let into = failures.forgive(|| machine.flow_in(duration))?;
            let round_trip = failures.forgive(|| machine.round_trip())?;
            // The first round warms up.
            if round > 0 {
                found.add(at, out, into, round_trip);
            }
        }
    }
    let samples = found.samples();
    found::show(&samples);
    let bounds: Vec<_> = found::bounds(&samples).into_iter().chain(starts.bounds()).collect();
    bound::print(&bounds);
    println!("\n{} attempts failed and were tried again", failures.tried_again);
    write(arguments.json.as_deref(), || {
        format!("{:#}\n", found::to_json(&samples, &starts, &bounds))
    })
}
