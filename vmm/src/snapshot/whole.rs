//! Whether a saved machine's files are as they were written, as far as that can be told at the price of
//! a look, and at that of reading them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use super::memory::PIECE;
use super::{MachineState, SnapshotError, format};
use crate::arch::x86_64::layout;
use crate::config::SnapshotFiles;
use crate::layers::{self, Pieces};
use crate::memory::{self, place};
use crate::sparse::next_data;

/// The grain of a memory file.
const PAGE: usize = 4096;
/// What is read at once.
const BUFFER: usize = 64 * PAGE;

/// Marks a memory file that is written: whoever writes to it later dates it anew, and is found out at
/// the price of a look.
pub(crate) fn seal(file: &File) -> io::Result<()> {
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

/// What a saved machine's state says about its owner's files.
#[derive(Debug, Default)]
pub struct Contents {
    /// How many files its memory has.
    pub layers: usize,
    /// What counts of the files of each of its writable disks, if it was saved while it lived.
    pub disks: Vec<Vec<Pieces>>,
}

/// Checks a saved machine's files at the price of a look.
///
/// # Errors
/// When the state is not whole, or the memory is not its own.
pub fn check_saved(files: &mut SnapshotFiles) -> Result<Contents, SnapshotError> {
    let state = format::read(&mut files.state)?;
    let bytes = u64::from(state.memory_mib) << 20;
    if state.memory.len() != files.memories().count() {
        return Err(SnapshotError::Damaged { what: "its memory has another number of layers" });
    }
    for (file, pieces) in files.memories().zip(&state.memory) {
        check_memory(file, bytes).map_err(SnapshotError::Read)?;
        place(bytes, pieces).map_err(SnapshotError::Read)?;
    }
    Ok(contents_of(state))
}

/// What a state says about the other files.
///
/// # Errors
/// When it is not whole.
pub fn contents(state: &mut File) -> Result<Contents, SnapshotError> {
    format::read(state).map(contents_of)
}

fn contents_of(state: MachineState) -> Contents {
    Contents { layers: state.memory.len(), disks: state.disks }
}

/// Writes the state and the memory of a machine, which was saved as what differs from another, as those of one
/// that lies over no other. The files of its disks are its owner's to join.
///
/// # Errors
/// When a file cannot be read or written, or the state is not whole.
pub fn flatten(mut files: SnapshotFiles, mut to: SnapshotFiles) -> Result<(), SnapshotError> {
    let mut state = format::read(&mut files.state)?;
    let bytes = u64::from(state.memory_mib) << 20;
    let memory = memory::layers(bytes, files.into_memories(), &state.memory);
    memory.map_err(SnapshotError::Read)?.copy_to(&to.memory).map_err(SnapshotError::Write)?;
    seal(&to.memory).map_err(SnapshotError::Write)?;
    state.memory = vec![coarse(bytes, state.memory.concat())];
    for files in &mut state.disks {
        let end = files.iter().flatten().map(|(start, length)| start + length).max();
        *files = vec![layers::all(end.unwrap_or(0))];
    }
    format::write(&mut to.state, &state)
}

/// The pieces of a memory of `bytes` that hold something of these, in the grain of one that was saved as a
/// whole.
fn coarse(bytes: u64, mut pieces: Pieces) -> Pieces {
    let mut found = Pieces::new();
    pieces.sort_unstable();
    for (first, size) in layout::memory_ranges(bytes) {
        let end = first + size;
        for &(start, length) in pieces.iter().filter(|(start, _)| (first..end).contains(start)) {
            let until = (start + length).next_multiple_of(PIECE as u64).min(end);
            let start = start / PIECE as u64 * PIECE as u64;
            layers::append(&mut found, start, until - start);
        }
    }
    found
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
