//! Fetches blobs again that were not kept: `save` and `push` need layers as they came.

use std::path::PathBuf;

use images::{Blobs, Descriptor, Fetch, Image, Limits, Reference, Store};
use indicatif::ProgressBar;

use crate::blob::{BlobReader, Course};
use crate::config::Endpoint;
use crate::error::Error;
use crate::http::Client;
use crate::repository::Repository;

/// Fetches every layer of an image that the store has no blob of.
pub(crate) fn run(client: &Client, fetch: &Fetch) -> Result<(), Error> {
    let store = Store::open(&fetch.store).map_err(images::Error::from)?;
    let image = store.find(&fetch.name)?;
    let _stays = image.lock()?;
    let origins: Vec<&Reference> = image.references.iter().collect();
    for layer in &image.parts()?.layers {
        blob(client, &store, &image, layer, &origins)?;
    }
    Ok(())
}

/// The file with a blob. One that was not kept is fetched from the first of `origins` that has it, or
/// from a mirror of it.
pub(crate) fn blob(
    client: &Client,
    store: &Store,
    image: &Image,
    blob: &Descriptor,
    origins: &[&Reference],
) -> Result<PathBuf, Error> {
    if let Some(path) = image.blob(blob.digest) {
        return Ok(path);
    }
    let mut problem = None;
    for origin in origins {
        for endpoint in client.config.endpoints(origin.registry()) {
            match from(client, store, blob, endpoint, origin) {
                Ok(()) => problem = None,
                Err(error) => problem = Some(error),
            }
            if let Some(path) = image.blob(blob.digest) {
                return Ok(path);
            }
        }
    }
    Err(problem.unwrap_or_else(|| Error::Request {
        problem: format!("layer {} was not kept, and nothing says where it came from", blob.digest),
        hint: "pull the image again with `keep-blobs = true` in registries.toml",
    }))
}

fn from(
    client: &Client,
    store: &Store,
    blob: &Descriptor,
    endpoint: Endpoint,
    origin: &Reference,
) -> Result<(), Error> {
    let repository = Repository::new(client, endpoint, origin.repository(), "pull");
    let course = Course::default();
    let taken = store.take_in(&Limits::DEFAULT, Blobs::Keep, |intake| {
        let reader = BlobReader::new(&repository, blob, &course, ProgressBar::hidden());
        intake.keep_blob(reader, blob).map(drop)
    });
    let failure = course.failure.into_inner().expect("no thread panics with it");
    failure.map_or(taken.map_err(Error::from), Err)
}
