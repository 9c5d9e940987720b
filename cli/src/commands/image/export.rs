//! `hyperrun image export`: the file tree of an image as a tar.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use images::Output;

use crate::arguments::Common;
use crate::commands::open_store;
use crate::commands::save::refuse_terminal;
use crate::failure::Failure;
use crate::output::NewFile;

/// Write the file tree of an image as a tar
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun image export debian:bookworm | tar -t")]
pub(crate) struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    image: String,
}

/// Writes the tar; a file is there as a whole or not at all.
pub(crate) fn run(args: &ExportArgs, common: &Common) -> Result<ExitCode, Failure> {
    let store = open_store(common)?;
    match &args.output {
        Some(path) => {
            let mut file = NewFile::create(path)?;
            let name = path.display().to_string();
            store.export(&args.image, Output { writer: &mut file, name: &name })?;
            file.keep()?;
        }
        None => {
            refuse_terminal("export")?;
            let (mut writer, name) = (stdout().lock(), "standard output");
            store.export(&args.image, Output { writer: &mut writer, name })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
