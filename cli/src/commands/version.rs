//! `hyperrun version`: of the binary, and of what it would run guests and pull images with.

use std::process::ExitCode;

use runtime::{find_agent, find_kernel, find_registry, find_resolver};

use crate::commands::print;
use crate::failure::Failure;

/// Print the version, and which guest kernel, agent and helpers are used
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun version")]
pub(crate) struct VersionArgs {}

/// Prints a line for each part.
pub(crate) fn run(VersionArgs {}: &VersionArgs) -> Result<ExitCode, Failure> {
    let place = |found: Result<runtime::GuestFile, runtime::Error>| {
        found.map_or_else(|_| "not found".to_owned(), |file| file.path.display().to_string())
    };
    print(&format!(
        "hyperrun {}\nkernel   {}\nagent    {}\nregistry {}\nresolver {}\n",
        env!("CARGO_PKG_VERSION"),
        place(find_kernel()),
        place(find_agent()),
        place(find_registry()),
        place(find_resolver()),
    ))?;
    Ok(ExitCode::SUCCESS)
}
