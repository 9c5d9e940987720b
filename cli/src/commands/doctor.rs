//! `hyperrun doctor`: whether this machine can run guests, and what is missing.

use std::process::ExitCode;

use runtime::doctor::{Report, examine};
use runtime::places::Places;

use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;

/// Examine this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun doctor --json")]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints a line for each finding; the exit code is 0 when all is fine, else 1.
pub(crate) fn run(args: &DoctorArgs, common: &Common) -> Result<ExitCode, Failure> {
    let report = examine(&Places::find(common.root.as_deref())?);
    let text = if args.json { report.to_json() + "\n" } else { lines(&report) };
    print(&text)?;
    Ok(ExitCode::from(u8::from(!report.ok)))
}

fn lines(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let verdict = if finding.ok { "ok" } else { "no" };
        text.push_str(&format!("{verdict}  {:<13} {}\n", finding.name, finding.detail));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("    hint: {hint}\n"));
        }
    }
    text
}
