//! `hyperrun template rm`: takes templates away.

use std::process::ExitCode;

use super::templates;
use crate::arguments::Common;
use crate::commands::print;
use crate::failure::Failure;

/// Remove templates; the next run that needs one makes it anew
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun template rm 3f9c")]
pub(crate) struct RmArgs {
    /// Names, or the beginnings of names
    #[arg(required = true, value_name = "TEMPLATE")]
    names: Vec<String>,
}

/// Removes one after the other; a failure does not keep the rest from being removed.
pub(crate) fn run(args: &RmArgs, common: &Common) -> Result<ExitCode, Failure> {
    let templates = templates(common)?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match templates.remove(name) {
            Ok(key) => print(&format!("Deleted: {key}\n"))?,
            Err(error) => code = Failure::from(error).report(),
        }
    }
    Ok(code)
}
