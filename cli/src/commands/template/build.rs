//! `hyperrun template build`: a template before the first run needs it.

use std::process::ExitCode;

use runtime::Journal;
use runtime::limits::{Cpus, MemorySize};
use runtime::places::Places;
use runtime::plan::VmConfig;
use runtime::settings::Settings;

use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;

/// Make the template for machines of one size, or one image's, unless it is there
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun template build -m 1g --cpus 2
  hyperrun template build --image debian:bookworm --rm")]
pub(crate) struct BuildArgs {
    /// For machines with this much memory, as 512m or 2g [default: that of `run`]
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<MemorySize>,
    /// For machines with this many CPUs [default: that of `run`]
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<Cpus>,
    /// For containers of this image, with its disks mounted
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// With --image: for containers that are removed when they end (`run --rm`)
    #[arg(long, requires = "image")]
    rm: bool,
    /// Nobody waits for it: a run has started it
    #[arg(long, hide = true)]
    aside: bool,
}

/// Boots a machine, saves it, and prints the template's name.
pub(crate) fn run(args: &BuildArgs, common: &Common) -> Result<ExitCode, Failure> {
    if args.aside {
        runtime::stand_aside()?;
    }
    let places = Places::find(common.root.as_deref())?;
    let settings = Settings::load()?;
    let memory = args.memory.unwrap_or(settings.memory.value);
    let cpus = args.cpus.unwrap_or(settings.cpus.value);
    let shape = VmConfig { memory_mib: memory.mib(), vcpus: cpus.vcpus() };
    let name = match &args.image {
        None => runtime::build_template(shape, &places)?,
        Some(image) => {
            let journal = if args.rm { Journal::Without } else { Journal::With };
            runtime::build_image_template(image, journal, shape, &places)?
        }
    };
    print(&(name + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
