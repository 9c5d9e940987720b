//! `hyperrun snapshot import`: takes in a snapshot that was exported.

use std::fs::File;
use std::io::{IsTerminal, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

use runtime::Error;
use runtime::snapshots::{SnapshotName, import};

use crate::arguments::Common;
use crate::commands::save::is_stream;
use crate::commands::{places, print};
use crate::failure::Failure;

/// Take in a snapshot that was exported, perhaps elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = "\
All of it is checked before it is there. What is in it runs in a machine of its own, as that of an
image does; its image gets no name.

Example:
  hyperrun snapshot import -i warm.snapshot")]
pub(crate) struct ImportArgs {
    /// Read this file instead of standard input
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    input: PathBuf,
    /// What it is called [default: as it was]
    #[arg(value_name = "NAME")]
    name: Option<SnapshotName>,
}

/// Prints its name.
pub(crate) fn run(args: &ImportArgs, common: &Common) -> Result<ExitCode, Failure> {
    let places = places(common)?;
    let name = args.name.as_ref();
    let snapshot = if is_stream(&args.input) {
        if stdin().is_terminal() {
            let hint = "redirect a snapshot into it, or name one with `-i`";
            return Err(Failure::new("standard input is a terminal, not a snapshot", hint));
        }
        import(stdin().lock(), name, &places)?
    } else {
        let failed = |source| Error::File { action: "open", path: args.input.clone(), source };
        import(File::open(&args.input).map_err(failed)?, name, &places)?
    };
    print(&format!("{}\n", snapshot.name))?;
    Ok(ExitCode::SUCCESS)
}
