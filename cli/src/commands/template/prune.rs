//! `hyperrun template prune`: all templates, and what the making of some has left.

use std::process::ExitCode;

use runtime::templates::Pruned;

use super::templates;
use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;
use crate::words;

/// Remove all templates, broken ones and leftovers; runs make what they need anew
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun template prune")]
pub(crate) struct PruneArgs {
    /// Ask nothing, as it never does: nothing is lost
    #[arg(short, long)]
    force: bool,
}

/// Removes, and says what is gone.
pub(crate) fn run(args: &PruneArgs, common: &Common) -> Result<ExitCode, Failure> {
    let PruneArgs { force: _ } = args;
    print(&told(&templates(common)?.prune()?))?;
    Ok(ExitCode::SUCCESS)
}

fn told(pruned: &Pruned) -> String {
    let mut text = String::new();
    if !pruned.keys.is_empty() {
        text.push_str("Deleted Templates:\n");
        pruned.keys.iter().for_each(|key| text.push_str(&format!("Deleted: {key}\n")));
        text.push('\n');
    }
    text + &format!("Total reclaimed space: {}\n", words::size(pruned.reclaimed))
}
