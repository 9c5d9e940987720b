//! `hyperrun load`: images out of an archive or a folder.

use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use images::{Limits, LoadSource, Reference};
use runtime::limits::Size;

use crate::arguments::Common;
use crate::commands::{note_images, open_store, print};
use crate::failure::Failure;

/// Load images from a docker or OCI archive, or an OCI folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  docker save debian:bookworm | hyperrun load")]
pub(crate) struct LoadArgs {
    /// Read this file or folder instead of standard input
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    input: PathBuf,
    /// Show no progress, of which there is none anyway
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

/// How much an image may ask for; `pull` has these flags as well.
#[derive(Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// Unpack no more than this from one image, as 500m or 200g
    #[arg(long, value_name = "SIZE", default_value_t = Size { bytes: LIMITS.max_unpacked_bytes })]
    max_size: Size,
    /// Refuse images whose layers have more files, folders and links
    #[arg(long, value_name = "NUMBER", default_value_t = LIMITS.max_entries)]
    max_entries: u64,
    /// Refuse images whose names and attributes need more
    #[arg(long, value_name = "SIZE", default_value_t = Size { bytes: LIMITS.max_metadata_bytes })]
    max_metadata: Size,
}

const LIMITS: Limits = Limits::DEFAULT;

impl LimitArgs {
    /// The limits that these flags make.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_unpacked_bytes: self.max_size.bytes,
            max_entries: self.max_entries,
            max_metadata_bytes: self.max_metadata.bytes,
            ..LIMITS
        }
    }
}

/// Loads, and says what was loaded.
pub(crate) fn run(args: &LoadArgs, common: &Common) -> Result<ExitCode, Failure> {
    let source = source(&args.input)?;
    for loaded in open_store(common)?.load(source, &args.limits.limits())? {
        let (id, names) = (loaded.id.to_string(), &loaded.references);
        let name = names.first().map_or_else(|| id.clone(), Reference::familiar);
        note_images(common, "load", [(id, name)])?;
        if loaded.references.is_empty() {
            print(&format!("Loaded image ID: {}\n", loaded.id))?;
        }
        for reference in &loaded.references {
            print(&format!("Loaded image: {}\n", reference.familiar()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn source(input: &Path) -> Result<LoadSource, Failure> {
    if input != Path::new("-") {
        return Ok(LoadSource::Path(input.to_owned()));
    }
    if stdin().is_terminal() {
        let hint = "redirect an archive into it, or name one with `-i`";
        return Err(Failure::new("standard input is a terminal, not an archive", hint));
    }
    Ok(LoadSource::Reader(Box::new(stdin().lock())))
}
