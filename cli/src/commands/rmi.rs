//! `hyperrun rmi`: takes names and images away.

use std::process::ExitCode;

use images::{Reference, Removed};

use crate::arguments::Common;
use crate::commands::template::templates;
use crate::commands::{containers, note_images, open_store, print};
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
    let (store, all) = (open_store(common)?, containers(common)?);
    let mut code = ExitCode::SUCCESS;
    for name in &args.images {
        match store.remove(name, args.force, &|image| all.image_user(image)) {
            Ok(removed) => {
                note(common, &removed)?;
                print(&told(&removed))?;
            }
            Err(error) => code = Failure::from(error).report(),
        }
    }
    Ok(code)
}

/// Writes down what is gone: names of an image, and the image, whose templates go with it.
pub(crate) fn note(common: &Common, removed: &Removed) -> Result<(), Failure> {
    let names = removed.untagged.iter().map(Reference::familiar);
    note_images(common, "untag", names.map(|name| (name.clone(), name)))?;
    // What follows it are layers.
    let image = removed.deleted.first();
    if let Some(id) = image {
        templates(common)?.forget_image(*id)?;
    }
    let image = image.map(ToString::to_string);
    note_images(common, "delete", image.map(|id| (id.clone(), id)))
}

/// A line for each name and each digest that is gone.
pub(crate) fn told(removed: &Removed) -> String {
    let untagged = removed.untagged.iter().map(|name| format!("Untagged: {}\n", name.familiar()));
    let deleted = removed.deleted.iter().map(|digest| format!("Deleted: {digest}\n"));
    untagged.chain(deleted).collect()
}
