//! `hyperrun image prune`: images that nobody needs.

use std::process::ExitCode;

use images::{Pruned, Store};

use crate::arguments::Common;
use crate::commands::{confirm, containers, note_prune, open_store, print, rmi};
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

/// Images that nobody needs.
pub(crate) struct Unneeded {
    store: Store,
    wanted: Wanted,
    words: &'static str,
}

/// Asks, removes, and says what is gone.
pub(crate) fn run(args: &PruneArgs, common: &Common) -> Result<ExitCode, Failure> {
    let images = Unneeded::find(&args.filter, args.all, common)?;
    if !args.force {
        confirm("image prune", &format!("This will remove {}.", images.words()))?;
    }
    let pruned = images.remove(common)?;
    let bytes = words::size(pruned.reclaimed);
    print(&format!("{}Total reclaimed space: {bytes}\n", told(&pruned)))?;
    Ok(ExitCode::SUCCESS)
}

impl Unneeded {
    /// Those that the filters mean: without a name, or `all` that no container uses.
    pub(crate) fn find(filters: &[Filter], all: bool, common: &Common) -> Result<Self, Failure> {
        let store = open_store(common)?;
        let mut wanted = Wanted::read(filters, &FILTERS, &store)?;
        let words = if all || wanted.has_dangling() == Some(false) {
            wanted.forget_dangling();
            "all images without at least one container associated to them"
        } else {
            wanted.only_dangling();
            "all dangling images"
        };
        Ok(Self { store, wanted, words })
    }

    /// What they are, in words.
    pub(crate) fn words(&self) -> &'static str {
        self.words
    }

    /// Removes them, and all that no image needs.
    pub(crate) fn remove(self, common: &Common) -> Result<Pruned, Failure> {
        let (all, Self { store, wanted, .. }) = (containers(common)?, self);
        let user = |image| all.image_user(image);
        let pruned = store.prune(|image| !wanted.image(image), &user)?;
        pruned.images.iter().try_for_each(|removed| rmi::note(common, removed))?;
        note_prune(common, "image", pruned.reclaimed)?;
        Ok(pruned)
    }
}

/// What there is to say, with a blank line behind it, or nothing.
pub(crate) fn told(pruned: &Pruned) -> String {
    if pruned.images.is_empty() {
        return String::new();
    }
    let images: String = pruned.images.iter().map(rmi::told).collect();
    format!("Deleted Images:\n{images}\n")
}
