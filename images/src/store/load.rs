//! Takes an archive's images into the store: layers and blobs first, then the image, then its names.

use super::Store;
use super::intake::{Blobs, Complete, Intake, Loaded, Missing};
use crate::archive::{self, Archive, ArchivedImage, LoadSource};
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::Limits;

impl Store {
    /// Loads every image of a Docker archive, an OCI archive or an OCI folder. Names move from the
    /// images that had them before.
    ///
    /// # Errors
    /// If the archive or an image in it cannot be used. The store is then as it was before.
    pub fn load(&self, source: LoadSource, limits: &Limits) -> Result<Vec<Loaded>, Error> {
        self.take_in(limits, Blobs::Keep, |intake| {
            let archive = Archive::open(source, intake.folder(), limits)?;
            let mut complete = Vec::new();
            for image in archive::images(&archive, limits)? {
                complete.push(take_image(intake, &archive, image, limits)?);
            }
            intake.publish(complete)
        })
    }

    /// Loads the image with this id out of an archive, and nothing else of it: no name is given to it, and
    /// none is taken from another.
    ///
    /// # Errors
    /// If the archive or the image cannot be used, or is not in it. The store is then as it was before.
    pub fn load_nameless(
        &self,
        source: LoadSource,
        id: Digest,
        limits: &Limits,
    ) -> Result<(), Error> {
        self.take_in(limits, Blobs::Keep, |intake| {
            let archive = Archive::open(source, intake.folder(), limits)?;
            for image in archive::images(&archive, limits)? {
                let image = ArchivedImage { references: Vec::new(), ..image };
                if Digest::of(&archive.document(&image.config.0, limits)?) == id {
                    let complete = vec![take_image(intake, &archive, image, limits)?];
                    return intake.publish(complete).map(drop);
                }
            }
            Err(Error::UnknownImage { name: id.short() })
        })
    }
}

fn take_image(
    intake: &Intake<'_>,
    archive: &Archive,
    image: ArchivedImage,
    limits: &Limits,
) -> Result<Complete, Error> {
    let (member, expected) = &image.config;
    let config = archive.document(member, limits)?;
    let actual = Digest::of(&config);
    if let Some(expected) = expected.filter(|expected| *expected != actual) {
        return Err(Error::WrongDigest { what: member.clone(), expected, actual });
    }
    let (members, descriptors): (Vec<_>, Vec<_>) =
        image.layers.into_iter().map(|layer| (layer.member, layer.descriptor)).unzip();
    let incoming = intake.image(member, config, image.manifest, descriptors)?;
    for (number, member) in members.iter().enumerate() {
        if incoming.missing(number)? == Missing::Blob {
            incoming.take(number, archive.reader(member)?)?;
        }
    }
    incoming.complete(image.references)
}
