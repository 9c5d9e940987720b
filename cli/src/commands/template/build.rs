//! `hyperrun template build`: a template before the first run needs it.

use std::process::ExitCode;

use runtime::limits::{Cpus, MemorySize};
use runtime::places::Places;
use runtime::plan::VmConfig;
use runtime::settings::Settings;

use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;

/// Make the template for machines of one size, unless it is there
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun template build -m 1g --cpus 2")]
pub(crate) struct BuildArgs {
    /// For machines with this much memory, as 512m or 2g [default: that of `run`]
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<MemorySize>,
    /// For machines with this many CPUs [default: that of `run`]
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<Cpus>,
}

/// Boots a machine, saves it, and prints the template's name.
pub(crate) fn run(args: &BuildArgs, common: &Common) -> Result<ExitCode, Failure> {
    let places = Places::find(common.root.as_deref())?;
    let settings = Settings::load()?;
    let memory = args.memory.unwrap_or(settings.memory.value);
    let cpus = args.cpus.unwrap_or(settings.cpus.value);
    let shape = VmConfig { memory_mib: memory.mib(), vcpus: cpus.vcpus() };
    print(&(runtime::build_template(shape, &places)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
