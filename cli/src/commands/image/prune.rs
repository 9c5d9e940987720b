//! `hyperrun image prune`: images that nobody needs.

use std::process::ExitCode;

use images::Pruned;

use crate::arguments::Common;
use crate::commands::{confirmed, containers, open_store, print, rmi};
use crate::failure::Failure;
use crate::filter::{Filter, Wanted};
use crate::words;

/// Remove images that have no name, or all that no container uses
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun image prune --all --force --filter until=24h")]
pub(crate) struct PruneArgs {
    /// Remove images that have a name as well
    #[arg(short, long)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Remove only some: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=false for --all
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
}

const FILTERS: [&str; 4] = ["until", "label", "label!", "dangling"];

/// Asks, removes, and says what is gone.
pub(crate) fn run(args: &PruneArgs, common: &Common) -> Result<ExitCode, Failure> {
    let store = open_store(common)?;
    let mut wanted = Wanted::read(&args.filter, &FILTERS, &store)?;
    let all = args.all || wanted.has_dangling() == Some(false);
    let what = if all {
        wanted.forget_dangling();
        "all images without at least one container associated to them"
    } else {
        wanted.only_dangling();
        "all dangling images"
    };
    if !args.force && !confirmed(what)? {
        let hint = "answer with y, or ask for no question with `-f`";
        return Err(Failure::new("image prune has been cancelled", hint));
    }
    let all = containers(common)?;
    let pruned = store.prune(|image| !wanted.image(image), &|image| all.image_user(image))?;
    print(&told(&pruned))?;
    Ok(ExitCode::SUCCESS)
}

fn told(pruned: &Pruned) -> String {
    let mut text = String::new();
    if !pruned.images.is_empty() {
        text.push_str("Deleted Images:\n");
        pruned.images.iter().for_each(|removed| text.push_str(&rmi::told(removed)));
        text.push('\n');
    }
    text + &format!("Total reclaimed space: {}\n", words::size(pruned.reclaimed))
}
