//! File operations that survive a crash: temporary name, fsync, rename, fsync of the folder.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use super::StoreError;

pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

pub(super) fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A folder that only its owner may enter: images can hold setuid programs and secrets.
pub(super) fn create_private_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create folder", path))
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Readers see the old content or the new, never a part. `temporary` is a folder of the same file
/// system, where a crash may leave a file behind.
pub(super) fn write_atomically(
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), StoreError> {
    write_whole(temporary, path, bytes)?;
    sync_folder(path.parent().unwrap_or(path))
}

/// As [`write_atomically`], but a crash may still take the file away: until its folder is synced.
pub(super) fn write_whole(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let failed = failed("write", path);
    let mut file = tempfile::NamedTempFile::new_in(temporary).map_err(&failed)?;
    file.write_all(bytes).map_err(&failed)?;
    file.as_file().sync_all().map_err(&failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}

/// Syncs new files side by side: they then wait for one commit of the file system, not for one each.
pub(super) fn sync_files(files: &[&File]) -> io::Result<()> {
    thread::scope(|scope| {
        let syncs: Vec<_> = files.iter().map(|file| scope.spawn(|| file.sync_all())).collect();
        let joined = syncs.into_iter().map(|sync| sync.join().unwrap_or_else(|p| resume_unwind(p)));
        joined.fold(Ok(()), io::Result::and)
    })
}

/// Makes renames in the folder last.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// Opens a file for locking, and makes it if it is not there.
pub(super) fn open_lock(path: &Path) -> Result<File, StoreError> {
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(failed("open", path))
}

/// Names in a folder that are text; whatever else lies there is not ours.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>, StoreError> {
    let failed = failed("list", path);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(&failed)? {
        names.extend(entry.map_err(&failed)?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
