//! `hyperrun system check`: whether the image store is whole.

use std::process::ExitCode;

use images::{Depth, Findings};

use crate::arguments::Common;
use crate::commands::{count, open_store, print};
use crate::failure::Failure;

/// Check that the image store is whole
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is 1 if something is damaged. What no image needs is listed as well; it does no harm.

Example:
  hyperrun system check --full")]
pub(crate) struct CheckArgs {
    /// Hash every blob, unpack every layer again and compare it, make every disk again
    #[arg(long)]
    full: bool,
}

/// Prints a line for each finding, then whether the store is whole.
pub(crate) fn run(args: &CheckArgs, common: &Common) -> Result<ExitCode, Failure> {
    let depth = if args.full { Depth::Contents } else { Depth::Files };
    let findings = open_store(common)?.check(depth)?;
    print(&told(&findings))?;
    Ok(ExitCode::from(u8::from(!findings.damaged.is_empty())))
}

fn told(findings: &Findings) -> String {
    let mut text = String::new();
    for damage in &findings.damaged {
        text.push_str(&format!("damaged  {}: {}\n", damage.path.display(), damage.reason));
    }
    for path in findings.unused.iter().flatten() {
        text.push_str(&format!("unused   {}\n", path.display()));
    }
    if findings.unused.is_none() {
        text.push_str("unused   not looked for: somebody else is adding to the store\n");
    }
    let verdict = if findings.damaged.is_empty() { "whole" } else { "damaged" };
    text + &format!(
        "{}, {}, {}: {verdict}\n",
        count(findings.images, "image"),
        count(findings.layers, "layer"),
        count(findings.blobs, "blob"),
    )
}
