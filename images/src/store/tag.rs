//! `tag`: a further name for an image.

use super::Store;
use crate::error::Error;
use crate::reference::Reference;

impl Store {
    /// Gives the image that `source` means the name `target`, which moves from the image that had it
    /// before.
    ///
    /// # Errors
    /// [`Error::UnknownImage`] and its like; [`Error::DigestTag`] if `target` has a digest.
    pub fn tag(&self, source: &str, target: Reference) -> Result<(), Error> {
        if target.digest().is_some() {
            return Err(Error::DigestTag);
        }
        let mut taken = self.take_names()?;
        let image = self.find_among(&taken.names, source)?;
        taken.names.insert(target, image.id);
        Ok(taken.save()?)
    }
}
