//! The tar reader: skipping and seeking find the same entries, and each is what it promises to be.

use std::collections::HashSet;
use std::io::{self, BufReader, Cursor, Read};

use crate::tar::{Entry, Kind, Reader, TarError};

const BLOCK: usize = 512;

/// Reads `bytes` as a tar stream.
///
/// # Panics
/// When the entries depend on how they are passed over, or one breaks a promise of the reader.
pub fn tar(bytes: &[u8]) {
    let bytes = sealed(bytes);
    let (read, ended_well) = entries(Reader::new(&bytes[..]), |reader| {
        io::copy(reader, &mut io::sink()).is_ok_and(|_| true)
    });
    let (sought, _) = entries(Reader::new(BufReader::new(Cursor::new(&bytes))), |reader| {
        reader.seek_past().is_ok()
    });
    if ended_well {
        assert_eq!(read, sought, "seeking finds other entries than reading");
    } else {
        // An archive cut off inside an entry may look whole to one who jumps over it.
        assert!(sought.starts_with(&read), "seeking finds other entries than reading");
    }
    read.iter().for_each(|(entry, _)| check(entry));
}

/// Makes the checksums of everything that looks like a header right: nobody finds them by chance.
pub(super) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// The entries, each with where its data begins, and whether the archive came to its end.
fn entries<R: Read>(
    mut reader: Reader<R>,
    mut pass: impl FnMut(&mut Reader<R>) -> bool,
) -> (Vec<(Entry, u64)>, bool) {
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push((entry, reader.position())),
            Ok(None) => return (entries, true),
            Err(TarError::Read { source, .. }) => panic!("memory gives no errors: {source}"),
            Err(_) => return (entries, false),
        }
        if !pass(&mut reader) {
            return (entries, false);
        }
    }
}

fn check(entry: &Entry) {
    assert!(entry.path.len() <= 4095 && !entry.path.contains(&0));
    assert!(entry.mode <= 0o7777 && entry.uid != u32::MAX && entry.gid != u32::MAX);
    assert!(entry.mtime.nanoseconds < 1_000_000_000);
    let names: HashSet<_> = entry.xattrs.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), entry.xattrs.len(), "an attribute comes twice");
    match &entry.kind {
        Kind::SparseFile { size, segments } => {
            let mut end = 0;
            for segment in segments {
                assert!(segment.offset >= end && segment.length > 0, "{segments:?}");
                end = segment.offset + segment.length;
            }
            assert!(end <= *size, "a segment lies behind the end of its file");
        }
        Kind::Symlink { target } | Kind::HardLink { target } => {
            assert!(target.len() <= 4095 && !target.contains(&0));
        }
        _ => {}
    }
}
