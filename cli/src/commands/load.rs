//! `hyperrun load`: images out of an archive or a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use images::{Limits, LoadSource};

use crate::arguments::Common;
use crate::commands::{open_store, print};
use crate::failure::Failure;

/// Load images from a docker or OCI archive, or an OCI folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  docker save debian:bookworm | hyperrun load")]
pub(crate) struct LoadArgs {
    /// Read this file or folder instead of standard input
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    input: PathBuf,
}

/// Loads, and says what was loaded.
pub(crate) fn run(args: &LoadArgs, common: &Common) -> Result<ExitCode, Failure> {
    let store = open_store(common)?;
    let source = if args.input == Path::new("-") {
        LoadSource::Reader(Box::new(std::io::stdin().lock()))
    } else {
        LoadSource::Path(args.input.clone())
    };
    for loaded in store.load(source, &Limits::default())? {
        if loaded.references.is_empty() {
            print(&format!("Loaded image ID: {}\n", loaded.id))?;
        }
        for reference in &loaded.references {
            print(&format!("Loaded image: {}\n", reference.familiar()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
