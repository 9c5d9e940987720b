//! `hyperrun import`: an image out of the tar of a file tree.

use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use images::{Change, ImportOptions};

use crate::arguments::Common;
use crate::commands::load::LimitArgs;
use crate::commands::save::is_stream;
use crate::commands::{new_name, note_images, open_store, print};
use crate::failure::Failure;

/// Make an image of a tar with a file tree
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  mmdebstrap bookworm - | hyperrun import -c 'CMD [\"bash\"]' - debian:bookworm")]
pub(crate) struct ImportArgs {
    /// Change the image's configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER,
    /// VOLUME or WORKDIR, as in a Dockerfile
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Change>,
    /// What the image's history says
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// The tar, plain or compressed by gzip or zstd; `-` is standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Prints the image's id.
pub(crate) fn run(args: &ImportArgs, common: &Common) -> Result<ExitCode, Failure> {
    let message = args.message.clone();
    let options = ImportOptions {
        reference: new_name(args.name.as_deref())?,
        message: message.unwrap_or_else(|| format!("Imported from {}", args.file.display())),
        changes: args.change.clone(),
        created: SystemTime::now(),
    };
    let id = open_store(common)?.import(input(args)?, &options, &args.limits.limits())?;
    let name = args.name.clone().unwrap_or_else(|| id.to_string());
    note_images(common, "import", [(id.to_string(), name)])?;
    print(&format!("{id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn input(args: &ImportArgs) -> Result<Box<dyn Read + Send>, Failure> {
    if !is_stream(&args.file) {
        let file = File::open(&args.file).map_err(|source| images::Error::ReadArchive {
            archive: args.file.display().to_string(),
            source,
        })?;
        return Ok(Box::new(file));
    }
    if stdin().is_terminal() {
        let hint = "redirect a tar into it, or name a file instead of `-`";
        return Err(Failure::new("standard input is a terminal, not a tar", hint));
    }
    Ok(Box::new(stdin()))
}
