//! The stored bytes of a file on their way into a stream and out of it.

use std::io::{self, Read, Write};

/// What is carried at once, in bytes.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// Copies `length` bytes.
///
/// # Errors
/// When either side fails, or `from` ends before.
pub fn copy_exactly(from: &mut impl Read, to: &mut impl Write, mut length: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    while length > 0 {
        let wanted = usize::try_from(length).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        from.read_exact(&mut piece[..wanted])?;
        to.write_all(&piece[..wanted])?;
        length -= wanted as u64;
    }
    Ok(())
}

/// Drops `length` bytes.
pub(crate) fn skip(from: &mut impl Read, length: u64) -> io::Result<()> {
    copy_exactly(from, &mut io::sink(), length)
}
