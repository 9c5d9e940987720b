//! `hyperrun snapshot create`: a container that runs, as files.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use runtime::snapshots::{self, Afterwards, SnapshotName};

use crate::arguments::Common;
use crate::commands::{places, print};
use crate::failure::Failure;
use crate::words;

/// Make a snapshot of a container that runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Memory, processors, devices and disk are of one moment. How long the container stood still for it is
said on standard error.

Example:
  hyperrun snapshot create web warm")]
pub(crate) struct CreateArgs {
    /// Let the container go on, as it does without this too
    #[arg(long, conflicts_with = "stop")]
    keep_running: bool,
    /// End the container when it is saved
    #[arg(long)]
    stop: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What the snapshot is called
    #[arg(value_name = "NAME")]
    name: SnapshotName,
}

/// Prints the snapshot's name.
pub(crate) fn run(args: &CreateArgs, common: &Common) -> Result<ExitCode, Failure> {
    let CreateArgs { keep_running: _, stop, container, name } = args;
    let afterwards = if *stop { Afterwards::Stop } else { Afterwards::GoOn };
    let snapshot = snapshots::take(container, name, afterwards, &places(common)?)?;
    let known = &snapshot.description;
    let pause = Duration::from_micros(known.pause_us).as_secs_f64() * 1000.0;
    let written = words::size(known.written);
    // Where stderr is closed nobody wants to know.
    let _ = writeln!(
        std::io::stderr().lock(),
        "{container} stood still for {pause:.1} ms; {written} written"
    );
    print(&format!("{name}\n"))?;
    Ok(ExitCode::SUCCESS)
}
