//! `hyperrun template check`: whether templates are as they were made.

use std::process::ExitCode;

use super::templates;
use crate::arguments::Common;
use crate::commands::{count, print};
use crate::failure::Failure;

/// Read all templates and compare them with what was saved
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is 1 if one is damaged. A run looks at the template it goes on from, but does not read
all of its memory.

Example:
  hyperrun template check")]
pub(crate) struct CheckArgs {}

/// Prints a line for each that is damaged, then how many there are.
pub(crate) fn run(_args: &CheckArgs, common: &Common) -> Result<ExitCode, Failure> {
    let checked = templates(common)?.check()?;
    let lines = checked.damaged.iter().map(|(key, reason)| format!("damaged  {key}: {reason}\n"));
    let verdict = if checked.damaged.is_empty() { "whole" } else { "damaged" };
    let last = format!("{}: {verdict}\n", count(checked.templates, "template"));
    print(&(lines.collect::<String>() + &last))?;
    Ok(ExitCode::from(u8::from(!checked.damaged.is_empty())))
}
