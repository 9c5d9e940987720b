//! Files with holes, of which what is no hole is read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

/// Where the file has something next, from `at` on; a file system that knows no holes has something
/// everywhere.
///
/// # Errors
/// When the file cannot be looked at.
pub(crate) fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    found(seek(file, SeekFrom::Data(at)))
}

/// Copies what is in a file, and its length, to an empty one; the bytes that were copied. A file system
/// that can share them between files does.
///
/// # Errors
/// When one cannot be read, or the other not be written.
pub fn copy(from: &File, to: &File) -> io::Result<u64> {
    let length = from.metadata()?.len();
    let copied = copy_data(from, to, 0..length)?;
    to.set_len(length)?;
    Ok(copied)
}

/// Copies what is in a piece of a file to the same place of another, which has nothing there; the bytes that
/// were copied.
///
/// # Errors
/// When one cannot be read, or the other not be written.
pub(crate) fn copy_data(from: &File, to: &File, piece: Range<u64>) -> io::Result<u64> {
    let mut copied = 0;
    for part in data(from, piece)? {
        copied += part.end - part.start;
        copy_piece(from, to, part)?;
    }
    Ok(copied)
}

/// The parts of a piece of a file that are no holes, in order.
///
/// # Errors
/// When the file cannot be looked at.
pub(crate) fn data(file: &File, piece: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let (mut parts, mut end) = (Vec::new(), piece.start);
    while let Some(start) = next_data(file, end)?.filter(|start| *start < piece.end) {
        end = found(seek(file, SeekFrom::Hole(start)))?.unwrap_or(piece.end).min(piece.end);
        parts.push(start..end);
    }
    Ok(parts)
}

/// Leaves the bytes to the kernel, as far as it goes from one of these file systems to the other.
fn copy_piece(from: &File, to: &File, piece: Range<u64>) -> io::Result<()> {
    let (mut at, mut there) = (piece.start, piece.start);
    while at < piece.end {
        let bytes = usize::try_from(piece.end - at).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut at), to, Some(&mut there), bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return carry(from, to, at..piece.end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Copies through this process.
fn carry(from: &File, to: &File, piece: Range<u64>) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = piece.start;
    while at < piece.end {
        let count = buffer.len().min(usize::try_from(piece.end - at).unwrap_or(usize::MAX));
        from.read_exact_at(&mut buffer[..count], at)?;
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// None where a file has nothing more.
fn found(place: rustix::io::Result<u64>) -> io::Result<Option<u64>> {
    match place {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_no_hole_is_found() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        assert_eq!(next_data(&file, 0).unwrap(), None);
        file.write_all_at(b"x", 5 << 20).unwrap();
        let found = next_data(&file, 0).unwrap().unwrap();
        assert!(found <= 5 << 20 && next_data(&file, 5 << 20).unwrap() == Some(5 << 20));
        assert_eq!(next_data(&file, 8 << 20).unwrap(), None);
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let file = || tempfile::tempfile().unwrap();
        copies(&file(), &file());
        // From one file system to another.
        copies(&tempfile::tempfile_in("/dev/shm").unwrap(), &file());
        let full = file();
        full.write_all_at(b"x", 0).unwrap();
        assert!(copy(&full, &File::open("/dev/null").unwrap()).is_err());
    }

    fn copies(from: &File, to: &File) {
        from.set_len(8 << 20).unwrap();
        for at in [4096, 5 << 20, (6 << 20) + 7] {
            from.write_all_at(b"x", at).unwrap();
        }
        let copied = copy(from, to).unwrap();
        assert!((3 * 4096..1 << 20).contains(&copied), "{copied}");
        let read = |file: &File| {
            let mut bytes = vec![1; 8 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(read(from) == read(to));
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
