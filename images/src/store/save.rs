//! `save` and `export`: images out of the store, as archives and as file trees.

mod layout;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use super::files::{create_private_folder, failed, invalid};
use super::image::Image;
use super::{Store, StoreError, disk};
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::export::{self, ExportError};
use crate::reference::Reference;
use crate::tar::{Timestamp, Writer};
use layout::{Content, Member};

/// What is written, and where.
pub enum SaveTarget<'a> {
    /// One tar that is a Docker archive and an OCI archive at once, as `docker save` writes it.
    DockerArchive(Output<'a>),
    /// A tar of an OCI image layout.
    OciArchive(Output<'a>),
    /// An OCI image layout in this folder, which is made, or is there and empty.
    OciFolder(&'a Path),
}

/// Somewhere to write an archive to, and its name for errors.
pub struct Output<'a> {
    /// Takes the bytes.
    pub writer: &'a mut dyn Write,
    /// The path, or `standard output`.
    pub name: &'a str,
}

/// An image that is saved, by the name it was asked for, if it was one.
struct Selected {
    image: Image,
    reference: Option<Reference>,
}

impl Store {
    /// Writes the images that `names` mean. Configurations, manifests and layers keep their bytes, so
    /// they keep their digests, which are checked on the way. The images cannot be removed meanwhile.
    ///
    /// # Errors
    /// If an image is not there or damaged, or the target cannot be written.
    pub fn save(&self, names: &[String], target: SaveTarget<'_>) -> Result<(), Error> {
        let mut selected = Vec::new();
        let mut locks = Vec::new();
        for name in names {
            let image = self.find(name)?;
            locks.push(image.lock()?);
            let reference = name.parse().ok().filter(|name| image.references.contains(name));
            selected.push(Selected { image, reference });
        }
        match target {
            SaveTarget::DockerArchive(output) => {
                write_archive(&layout::docker(self, &selected)?, output)
            }
            SaveTarget::OciArchive(output) => write_archive(&layout::oci(self, &selected)?, output),
            SaveTarget::OciFolder(folder) => write_folder(&layout::oci(self, &selected)?, folder),
        }
    }

    /// Writes the file tree of an image as a tar.
    ///
    /// # Errors
    /// If the image is not there or damaged, or the output cannot be written.
    pub fn export(&self, name: &str, output: Output<'_>) -> Result<(), Error> {
        let image = self.find(name)?;
        let _lock = image.lock()?;
        let merged = disk::merge(self, image.record())?;
        let mut data = Vec::new();
        for layer in image.layers() {
            let path = self.layer(layer).join("data");
            data.push(File::open(&path).map_err(failed("open", &path))?);
        }
        let writer = BufWriter::with_capacity(BUFFER, output.writer);
        export::write(&merged.tree, &data, writer).map_err(|error| match error {
            ExportError::Write(source) => {
                Error::WriteArchive { archive: output.name.to_owned(), source }
            }
            ExportError::Read { layer, source } => {
                let path = self.layer(image.layers()[layer]).join("data");
                StoreError::Corrupt { path, source }.into()
            }
        })
    }
}

/// Bytes that are copied at once.
const BUFFER: usize = 256 << 10;

fn write_archive(members: &[Member], output: Output<'_>) -> Result<(), Error> {
    let failed = |source| Error::WriteArchive { archive: output.name.to_owned(), source };
    let mut writer = Writer::new(BufWriter::with_capacity(BUFFER, output.writer));
    // Readers of layouts look for these folders, though the files in them say it all.
    for folder in ["blobs", "blobs/sha256"] {
        writer.folder(folder, Timestamp::default()).map_err(failed)?;
    }
    for member in members {
        let begun = writer.file(&member.path, member.content.size(), Timestamp::default());
        begun.map_err(failed)?;
        match &member.content {
            Content::Document(bytes) => {
                writer.copy(&mut &bytes[..], bytes.len() as u64).map_err(failed)?;
            }
            Content::Blob { digest, size, path } => {
                let mut blob = Blob::open(path)?;
                match writer.copy(&mut blob, *size) {
                    Ok(()) => blob.check(*digest)?,
                    Err(error) => return Err(blob.blame(error, failed)),
                }
            }
        }
    }
    writer.finish().map(drop).map_err(failed)
}

/// Leaves nothing behind if it fails.
fn write_folder(members: &[Member], folder: &Path) -> Result<(), Error> {
    let name = folder.display().to_string();
    let failed = |source| Error::WriteArchive { archive: name.clone(), source };
    let is_new = match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            Some(_) => return Err(failed(io::ErrorKind::DirectoryNotEmpty.into())),
            None => false,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed(error)),
    };
    let written = members.iter().try_for_each(|member| {
        let path = folder.join(&member.path);
        create_private_folder(path.parent().unwrap_or(folder))?;
        let mut file = File::create_new(&path).map_err(failed)?;
        match &member.content {
            Content::Document(bytes) => file.write_all(bytes).map_err(failed),
            Content::Blob { digest, path, .. } => {
                let mut blob = Blob::open(path)?;
                match io::copy(&mut blob, &mut file) {
                    Ok(_) => blob.check(*digest),
                    Err(error) => Err(blob.blame(error, failed)),
                }
            }
        }
    });
    if written.is_err() {
        // Best effort; the error says what matters.
        let _left = ["blobs"].map(|name| fs::remove_dir_all(folder.join(name)));
        let _left = ["index.json", "oci-layout"].map(|name| fs::remove_file(folder.join(name)));
        let _left = is_new.then(|| fs::remove_dir(folder));
    }
    written
}

/// A blob on its way out: hashed, and its own errors kept apart from those of whoever writes.
struct Blob<'a> {
    path: &'a Path,
    file: File,
    hasher: Hasher,
    failure: Option<io::Error>,
}

impl<'a> Blob<'a> {
    fn open(path: &'a Path) -> Result<Blob<'a>, Error> {
        let file = File::open(path).map_err(failed("open", path))?;
        Ok(Blob { path, file, hasher: Hasher::default(), failure: None })
    }

    fn check(self, wanted: Digest) -> Result<(), Error> {
        if self.hasher.finish() == wanted {
            return Ok(());
        }
        let source = invalid("its digest is not the one it goes by");
        Err(StoreError::Corrupt { path: self.path.to_owned(), source }.into())
    }

    fn blame(self, error: io::Error, write_failed: impl Fn(io::Error) -> Error) -> Error {
        let path = self.path.to_owned();
        match self.failure {
            Some(source) => StoreError::Io { action: "read", path, source }.into(),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                StoreError::Corrupt { path, source: invalid("it is too short") }.into()
            }
            None => write_failed(error),
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Ok(count) => {
                self.hasher.update(&buffer[..count]);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}
