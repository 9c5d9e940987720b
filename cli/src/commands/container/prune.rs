//! `hyperrun container prune`: containers that do not run.

use std::process::ExitCode;

use runtime::Removal;

use crate::arguments::Common;
use crate::commands::{confirmed, containers, open_store, print};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::filter::containers::WantedContainers;
use crate::words;

/// Remove all containers that do not run
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun container prune --force --filter until=24h")]
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
    let all = containers(common)?;
    let mut found = all.list()?;
    let wanted = WantedContainers::read(&args.filter, &FILTERS, &found, &open_store(common)?)?;
    found.retain(|one| !one.state.status.is_supervised() && wanted.container(one));
    if !args.force && !confirmed("all stopped containers")? {
        let hint = "answer with y, or ask for no question with `-f`";
        return Err(Failure::new("container prune has been cancelled", hint));
    }
    let (mut code, mut gone, mut bytes) = (ExitCode::SUCCESS, String::new(), 0);
    for one in found {
        let written = one.written_bytes();
        match runtime::remove(&all, &one, Removal::OnlyEnded) {
            Ok(()) => {
                bytes += written;
                gone += &format!("{}\n", one.record.id);
            }
            // Somebody has removed or started it meanwhile.
            Err(runtime::Error::UnknownContainer { .. } | runtime::Error::StillRunning { .. }) => {}
            Err(error) => code = Failure::from(error).report(),
        }
    }
    if !gone.is_empty() {
        gone = format!("Deleted Containers:\n{gone}\n");
    }
    print(&(gone + &format!("Total reclaimed space: {}\n", words::size(bytes))))?;
    Ok(code)
}
