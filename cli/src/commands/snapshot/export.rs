//! `hyperrun snapshot export`: a snapshot as one file.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use runtime::snapshots::export;

use crate::arguments::Common;
use crate::commands::places;
use crate::commands::save::{is_stream, refuse_terminal};
use crate::failure::Failure;
use crate::output::NewFile;

/// Write a snapshot, with its image, to one compressed file
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun snapshot export -o warm.snapshot warm")]
pub(crate) struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE|-")]
    output: Option<PathBuf>,
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// Writes the file, which is there as a whole or not at all.
pub(crate) fn run(args: &ExportArgs, common: &Common) -> Result<ExitCode, Failure> {
    let places = places(common)?;
    match args.output.as_deref().filter(|path| !is_stream(path)) {
        Some(path) => {
            let mut file = NewFile::create(path)?;
            export(&args.name, &places, &mut file)?;
            file.keep()?;
        }
        None => {
            refuse_terminal("export")?;
            export(&args.name, &places, &mut stdout().lock())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
