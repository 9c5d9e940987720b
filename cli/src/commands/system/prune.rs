//! `hyperrun system prune`: containers that do not run, and networks and images that nobody needs then.

use std::process::ExitCode;

use crate::arguments::Common;
use crate::commands::container::prune::Ended;
use crate::commands::image::prune::{self, Unneeded};
use crate::commands::{confirm, network, print};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::words;

/// Remove what is not used: containers that do not run, networks, and images
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun system prune --all --force --filter until=24h")]
pub(crate) struct PruneArgs {
    /// Remove images that have a name as well, if no container uses them
    #[arg(short, long)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes too; these lie on their containers' own disks and always go
    #[arg(long)]
    volumes: bool,
    /// Remove only some: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
}

/// Asks, removes, and says what is gone.
pub(crate) fn run(args: &PruneArgs, common: &Common) -> Result<ExitCode, Failure> {
    if args.volumes && args.filter.iter().any(|filter| filter.key() == "until") {
        let error = "the \"until\" filter is not supported with \"--volumes\"";
        return Err(Failure::new(error, "leave out `--volumes`"));
    }
    let containers = Ended::find(&args.filter, common)?;
    let images = Unneeded::find(&args.filter, args.all, common)?;
    if !args.force {
        confirm("system prune", &warning(args, images.words()))?;
    }
    let gone = containers.remove(common)?;
    let networks = network::prune::removed(&args.filter, common)?;
    let pruned = images.remove(common)?;
    let bytes = words::size(gone.bytes + pruned.reclaimed);
    let told = gone.told + &networks + &prune::told(&pruned);
    print(&format!("{told}Total reclaimed space: {bytes}\n"))?;
    Ok(gone.code)
}

fn warning(args: &PruneArgs, images: &str) -> String {
    let mut text = "This will remove:\n  - all stopped containers\n".to_owned();
    text += "  - all networks not used by at least one container\n";
    if args.volumes {
        text += "  - all anonymous volumes not used by at least one container\n";
    }
    text += &format!("  - {images}\n");
    if !args.filter.is_empty() {
        let filters = args.filter.iter().map(|filter| format!("  - {filter}\n"));
        text += &format!(
            "\n  Items to be pruned will be filtered with:\n{}",
            filters.collect::<String>()
        );
    }
    text
}
