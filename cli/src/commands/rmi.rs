//! `hyperrun rmi`: takes names and images away.

use std::process::ExitCode;

use crate::arguments::Common;
use crate::commands::{open_store, print};
use crate::failure::Failure;

/// Remove images
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun rmi debian:bookworm")]
pub(crate) struct RmiArgs {
    /// Remove an image that has several names by its id
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes one after the other; a failure does not keep the rest from being removed.
pub(crate) fn run(args: &RmiArgs, common: &Common) -> Result<ExitCode, Failure> {
    let store = open_store(common)?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.images {
        match store.remove(name, args.force) {
            Ok(removed) => {
                for reference in &removed.untagged {
                    print(&format!("Untagged: {}\n", reference.familiar()))?;
                }
                for digest in &removed.deleted {
                    print(&format!("Deleted: {digest}\n"))?;
                }
            }
            Err(error) => code = Failure::from(error).report(),
        }
    }
    Ok(code)
}
