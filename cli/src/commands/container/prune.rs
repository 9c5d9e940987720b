//! `hyperrun container prune`: containers that do not run.

use std::process::ExitCode;

use runtime::{Containers, Found, Removal};

use crate::arguments::Common;
use crate::commands::{confirm, containers, note_prune, open_store, print};
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

/// Containers that do not run.
pub(crate) struct Ended {
    all: Containers,
    found: Vec<Found>,
}

/// What is gone of them.
pub(crate) struct Gone {
    /// The exit code: a failure if one of them could not be removed.
    pub(crate) code: ExitCode,
    /// What there is to say, with a blank line behind it, or nothing.
    pub(crate) told: String,
    /// What they had written.
    pub(crate) bytes: u64,
}

/// Asks, removes, and says what is gone.
pub(crate) fn run(args: &PruneArgs, common: &Common) -> Result<ExitCode, Failure> {
    let ended = Ended::find(&args.filter, common)?;
    if !args.force {
        confirm("container prune", "This will remove all stopped containers.")?;
    }
    let Gone { code, told, bytes } = ended.remove(common)?;
    print(&(told + &format!("Total reclaimed space: {}\n", words::size(bytes))))?;
    Ok(code)
}

impl Ended {
    /// Those that the filters mean.
    pub(crate) fn find(filters: &[Filter], common: &Common) -> Result<Self, Failure> {
        let all = containers(common)?;
        let mut found = all.list()?;
        let wanted = WantedContainers::read(filters, &FILTERS, &found, &open_store(common)?)?;
        found.retain(|one| !one.state.status.is_supervised() && wanted.container(one));
        Ok(Self { all, found })
    }

    /// Removes them. What cannot be removed is told on stderr.
    pub(crate) fn remove(self, common: &Common) -> Result<Gone, Failure> {
        let mut gone = Gone { code: ExitCode::SUCCESS, told: String::new(), bytes: 0 };
        for one in self.found {
            let written = one.written_bytes();
            match runtime::remove(&self.all, &one, Removal::OnlyEnded) {
                Ok(()) => {
                    gone.bytes += written;
                    gone.told += &format!("{}\n", one.record.id);
                }
                // Somebody has removed or started it meanwhile.
                Err(
                    runtime::Error::UnknownContainer { .. } | runtime::Error::StillRunning { .. },
                ) => {}
                Err(error) => gone.code = Failure::from(error).report(),
            }
        }
        if !gone.told.is_empty() {
            gone.told = format!("Deleted Containers:\n{}\n", gone.told);
        }
        note_prune(common, "container", gone.bytes)?;
        Ok(gone)
    }
}
