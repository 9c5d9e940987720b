//! Files with holes, of which what is no hole is read.

use std::fs::File;
use std::io;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Where the file has something next, from `at` on; a file system that knows no holes has something
/// everywhere.
///
/// # Errors
/// When the file cannot be looked at.
pub(crate) fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

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
}
