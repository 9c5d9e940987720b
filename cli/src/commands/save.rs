//! `hyperrun save`: images into an archive or a folder.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use images::{Output, SaveTarget};
use runtime::places::Places;

use crate::arguments::Common;
use crate::commands::{note_images, open_store};
use crate::failure::Failure;
use crate::output::NewFile;

/// Save images to a docker or OCI archive, or an OCI folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun save -o debian.tar debian:bookworm")]
pub(crate) struct SaveArgs {
    /// Write to this file, or make this folder, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::DockerArchive)]
    format: Format,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tar that is a Docker archive and an OCI archive at once
    DockerArchive,
    /// A tar of an OCI image layout
    OciArchive,
    /// An OCI image layout in a folder
    OciDir,
}

/// Writes the archive; a file is there as a whole or not at all.
pub(crate) fn run(args: &SaveArgs, common: &Common) -> Result<ExitCode, Failure> {
    let store = open_store(common)?;
    for name in &args.images {
        if store.find(name)?.lacks_blobs() {
            runtime::fetch_blobs(name, &Places::find(common.root.as_deref())?)?;
        }
    }
    match (&args.output, args.format) {
        (Some(folder), Format::OciDir) => {
            store.save(&args.images, SaveTarget::OciFolder(folder))?;
        }
        (None, Format::OciDir) => {
            let hint = "name a folder with `-o`";
            return Err(Failure::new("an OCI folder cannot go to standard output", hint));
        }
        (Some(path), format) => {
            let mut file = NewFile::create(path)?;
            let name = path.display().to_string();
            store.save(&args.images, target(format, &mut file, &name))?;
            file.keep()?;
        }
        (None, format) => {
            refuse_terminal("save")?;
            let mut output = stdout().lock();
            store.save(&args.images, target(format, &mut output, "standard output"))?;
        }
    }
    for name in &args.images {
        note_images(common, "save", [(store.find(name)?.id.to_string(), name.clone())])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn target<'a>(format: Format, writer: &'a mut dyn std::io::Write, name: &'a str) -> SaveTarget<'a> {
    let output = Output { writer, name };
    match format {
        Format::OciArchive => SaveTarget::OciArchive(output),
        Format::DockerArchive | Format::OciDir => SaveTarget::DockerArchive(output),
    }
}

/// An archive on a terminal is of no use to anybody.
pub(crate) fn refuse_terminal(verb: &str) -> Result<(), Failure> {
    if stdout().is_terminal() {
        let hint = "name a file with `-o`, or redirect standard output";
        return Err(Failure::new(&format!("cowardly refusing to {verb} to a terminal"), hint));
    }
    Ok(())
}

/// Whether a path stands for a standard stream.
pub(crate) fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}
