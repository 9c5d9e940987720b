//! `hyperrun network prune`: networks that nobody is on.

use std::process::ExitCode;

use super::networks;
use crate::arguments::Common;
use crate::commands::{confirm, note_prune, print};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::filter::networks::{Shown, WantedNetworks};

/// Remove all networks that no container is connected to
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun network prune --force --filter until=24h")]
pub(crate) struct PruneArgs {
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Remove only some: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
}

const FILTERS: [&str; 3] = ["until", "label", "label!"];

/// Asks, removes, and says what is gone.
pub(crate) fn run(args: &PruneArgs, common: &Common) -> Result<ExitCode, Failure> {
    let warning = "This will remove all custom networks not used by at least one container.";
    if !args.force {
        confirm("network prune", warning)?;
    }
    print(&removed(&args.filter, common)?)?;
    note_prune(common, "network", 0)?;
    Ok(ExitCode::SUCCESS)
}

/// Removes them; what there is to say, with a blank line behind it, or nothing.
pub(crate) fn removed(filters: &[Filter], common: &Common) -> Result<String, Failure> {
    let wanted = WantedNetworks::read(filters, &FILTERS)?;
    let removed = networks(common)?.prune(|network| wanted.network(&Shown::of(network, false)))?;
    if removed.is_empty() {
        return Ok(String::new());
    }
    let names: String = removed.iter().map(|network| network.name.clone() + "\n").collect();
    Ok(format!("Deleted Networks:\n{names}\n"))
}
