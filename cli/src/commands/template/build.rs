//! `hyperrun template build`: a template before the first run needs it.

use std::process::ExitCode;

use runtime::limits::{Cpus, MemorySize};
use runtime::places::Places;
use runtime::plan::VmConfig;

use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;

/// Make the template for machines of one size, unless it is there
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun template build -m 1g --cpus 2")]
pub(crate) struct BuildArgs {
    /// For machines with this much memory, as 512m or 2g
    #[arg(short, long, value_name = "SIZE", default_value_t = MemorySize::DEFAULT)]
    memory: MemorySize,
    /// For machines with this many CPUs
    #[arg(long, value_name = "NUMBER", default_value_t = Cpus::DEFAULT)]
    cpus: Cpus,
}

/// Boots a machine, saves it, and prints the template's name.
pub(crate) fn run(args: &BuildArgs, common: &Common) -> Result<ExitCode, Failure> {
    let places = Places::find(common.root.as_deref())?;
    let shape = VmConfig { memory_mib: args.memory.mib(), vcpus: args.cpus.vcpus() };
    print(&(runtime::build_template(shape, &places)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
