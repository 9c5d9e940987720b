//! Whether a saved machine's files are as they were written, as far as that can be told at the price of
//! a look, and at that of reading them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use super::{SnapshotError, format};
use crate::config::SnapshotFiles;
use crate::memory::place;
use crate::sparse::next_data;

/// The grain of a memory file.
const PAGE: usize = 4096;
/// What is read at once.
const BUFFER: usize = 64 * PAGE;

/// Marks a memory file that is written: whoever writes to it later dates it anew, and is found out at
/// the price of a look.
pub(super) fn seal(file: &File) -> io::Result<()> {
    file.set_modified(SystemTime::UNIX_EPOCH)
}

/// Whether a memory file of `bytes` has its length, and nobody has written to it since it was saved.
///
/// # Errors
/// When not, or the host does not tell.
pub(crate) fn check_memory(file: &File, bytes: u64) -> io::Result<()> {
    let metadata = file.metadata()?;
    let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if metadata.len() != bytes {
        return wrong("it has another length");
    }
    if metadata.modified()? != SystemTime::UNIX_EPOCH {
        return wrong("it was changed after it was saved");
    }
    Ok(())
}

/// Checks a saved machine's files at the price of a look.
///
/// # Errors
/// When the state is not whole, or the memory is not its own.
pub fn check_saved(files: &mut SnapshotFiles) -> Result<(), SnapshotError> {
    let state = format::read(&mut files.state)?;
    let bytes = u64::from(state.memory_mib) << 20;
    check_memory(&files.memory, bytes).map_err(SnapshotError::Read)?;
    place(bytes, &state.memory).map(drop).map_err(SnapshotError::Read)
}

/// A checksum (CRC-32C) of a memory file: of the pages that are not zero, and of their numbers. It
/// reads all that is in the file, which takes longer than a start.
///
/// # Errors
/// When the file cannot be read.
pub fn memory_sum(file: &File) -> io::Result<u32> {
    let length = file.metadata()?.len();
    let mut buffer = vec![0; BUFFER];
    let (mut sum, mut at) = (0, 0);
    while let Some(start) = next_data(file, at)? {
        at = start - start % PAGE as u64;
        let count = BUFFER.min(usize::try_from(length - at).unwrap_or(BUFFER));
        file.read_exact_at(&mut buffer[..count], at)?;
        for (number, page) in (at / PAGE as u64..).zip(buffer[..count].chunks(PAGE)) {
            if page.iter().any(|byte| *byte != 0) {
                sum = crc32c::crc32c_append(sum, &number.to_le_bytes());
                sum = crc32c::crc32c_append(sum, page);
            }
        }
        at += count as u64;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_that_was_written_to_is_found_out() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let told = |bytes| check_memory(&file, bytes).map_err(|error| error.to_string());
        assert_eq!(told(8192), Err("it was changed after it was saved".to_owned()));
        seal(&file).unwrap();
        assert_eq!(told(8192), Ok(()));
        assert_eq!(told(4096), Err("it has another length".to_owned()));
        file.write_all_at(b"x", 5000).unwrap();
        assert_eq!(told(8192), Err("it was changed after it was saved".to_owned()));
    }

    #[test]
    fn a_sum_is_of_what_is_there_and_where() {
        let sum = |writes: &[(&[u8], u64)]| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(16 << 20).unwrap();
            for (bytes, at) in writes {
                file.write_all_at(bytes, *at).unwrap();
            }
            memory_sum(&file).unwrap()
        };
        let (one, two) = (&[1; 8192][..], &[2; 4096][..]);
        let first = sum(&[(one, 4096), (two, 9 << 20)]);
        assert_eq!(sum(&[(two, 9 << 20), (one, 4096)]), first);
        assert_eq!(sum(&[(one, 4096), (two, 9 << 20), (&[0; 8192], 1 << 20)]), first, "zeros");
        let others = [
            sum(&[]),
            sum(&[(one, 4096)]),
            sum(&[(one, 8192), (two, 9 << 20)]),
            sum(&[(two, 4096), (one, 9 << 20)]),
            sum(&[(one, 4096), (two, 9 << 20), (b"x", (16 << 20) - 1)]),
            sum(&[(one, 4096), (two, 9 << 20), (b"x", 9 << 20)]),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
