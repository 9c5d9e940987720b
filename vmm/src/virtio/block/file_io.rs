//! Moves bytes between files and the guest's memory without a copy in between.
#![allow(unsafe_code, reason = "the guest's memory is shared, so no slice of it may exist")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{c_int, iovec, off_t};

use super::super::buffer::{Buffer, io_vector};

/// Fills `buffer` from `file` at `offset`.
///
/// # Errors
/// When the file ends before or gives an error.
pub(crate) fn read(file: &File, offset: u64, buffer: Buffer<'_>) -> io::Result<()> {
    transfer(offset, buffer, io::ErrorKind::UnexpectedEof, |pieces, count, offset| {
        // SAFETY: the pieces are guest memory that is mapped as long as the buffer borrows it, and
        // that no reference points into.
        unsafe { libc::preadv(file.as_raw_fd(), pieces, count, offset) }
    })
}

/// Writes all of `buffer` to `file` at `offset`.
///
/// # Errors
/// When the file gives an error.
pub(crate) fn write(file: &File, offset: u64, buffer: Buffer<'_>) -> io::Result<()> {
    transfer(offset, buffer, io::ErrorKind::WriteZero, |pieces, count, offset| {
        // SAFETY: the pieces are guest memory that is mapped as long as the buffer borrows it.
        unsafe { libc::pwritev(file.as_raw_fd(), pieces, count, offset) }
    })
}

/// Calls `call` until all of `buffer` has been moved.
fn transfer(
    mut offset: u64,
    mut buffer: Buffer<'_>,
    at_end: io::ErrorKind,
    call: impl Fn(*const iovec, c_int, off_t) -> isize,
) -> io::Result<()> {
    let mut pieces = Vec::with_capacity(16);
    while buffer.len() > 0 {
        pieces.clear();
        pieces.extend(io_vector(buffer.slices()));
        let count = c_int::try_from(pieces.len()).expect("there are at most 1024");
        let position = off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        match call(pieces.as_ptr(), count, position) {
            0 => return Err(at_end.into()),
            moved if moved > 0 => {
                let moved = moved.unsigned_abs() as u64;
                buffer.take(moved);
                offset += moved;
            }
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
