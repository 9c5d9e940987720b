//! A memory as a whole in a file: what a guest has that stands still, or in two steps, of which the first needs no
//! pause: most of it is written while the guest runs, and what has changed since while it stands still.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use vm_memory::GuestMemoryMmap;

use super::SnapshotError;
use super::difference::{Saved, changed_pages};
use super::memory::{PIECE, ZEROS, length, overlaps, parts, runs};
use super::pagemap::{Page, Survey};
use super::whole::seal;
use crate::layers::{self, PAGE, Pieces};

/// What of a memory was written while its guest ran.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// The parts that are in the file.
    pieces: Pieces,
    written: u64,
    /// Which pages the process had of its own.
    survey: Survey,
}

/// Writes what is in `memory` to `file`. That is empty, or holds a copy of the file that lies behind
/// these pieces of the memory, `base`, of which only what differs is written then. While the guest runs this is
/// the first of two steps: [`catch_up`] is the other one.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_ahead(
    memory: &GuestMemoryMmap,
    survey: Survey,
    base: &[(u64, u64)],
    file: &File,
) -> Result<Ahead, SnapshotError> {
    let (mut pieces, mut written) = (Pieces::new(), 0);
    let mut buffer = vec![0; PIECE];
    for part in parts(memory) {
        let has_base = overlaps(base, part.address, part.bytes as u64);
        let own: Vec<bool> = survey.pages(&part).iter().map(|page| page.is_own()).collect();
        let piece = &mut buffer[..part.bytes];
        part.read(&own, piece);
        let zeros = if has_base { Fate::Cleared } else { Fate::Left };
        let fates = fates(piece, &own, zeros);
        let count = write_pages(piece, &fates, file, part.offset).map_err(SnapshotError::Write)?;
        if count > 0 || has_base {
            layers::append(&mut pieces, part.address, part.bytes as u64);
        }
        written += count;
    }
    file.set_len(length(memory)).map_err(SnapshotError::Write)?;
    Ok(Ahead { pieces, written, survey })
}

/// Writes to a file that was written ahead what has changed in the memory since, which stands still now. What is
/// not written since then is not looked at.
///
/// # Errors
/// As [`write_ahead`]; when the file cannot be read.
pub(crate) fn catch_up(
    memory: &GuestMemoryMmap,
    survey: &Survey,
    ahead: Ahead,
    file: &File,
) -> Result<Saved, SnapshotError> {
    let Ahead { pieces: known, mut written, survey: before } = ahead;
    let mut pieces = Pieces::new();
    let mut now = vec![0; PIECE];
    for part in parts(memory) {
        let pages = survey.pages(&part).iter().zip(before.pages(&part));
        // A page that was given back since holds what lies behind it.
        let is_suspect =
            |(now, then): (&Page, &Page)| *now == Page::Suspect || now.is_own() != then.is_own();
        let suspects: Vec<bool> = pages.map(is_suspect).collect();
        let now = &mut now[..part.bytes];
        part.read(&suspects, now);
        let then =
            |place: usize, then: &mut [u8]| file.read_exact_at(then, part.offset + place as u64);
        let changed = changed_pages(now, &suspects, then).map_err(SnapshotError::Read)?;
        let fates = fates(now, &changed, Fate::Cleared);
        let count = write_pages(now, &fates, file, part.offset).map_err(SnapshotError::Write)?;
        if count > 0 || overlaps(&known, part.address, part.bytes as u64) {
            layers::append(&mut pieces, part.address, part.bytes as u64);
        }
        written += count;
    }
    seal(file).map_err(SnapshotError::Write)?;
    Ok(Saved { pieces: vec![pieces], written })
}

/// Writes what is in `memory`, which stands still, to `file`, which is empty.
///
/// # Errors
/// As [`write_ahead`].
pub(crate) fn save(
    memory: &GuestMemoryMmap,
    survey: Survey,
    file: &File,
) -> Result<Saved, SnapshotError> {
    let Ahead { pieces, written, .. } = write_ahead(memory, survey, &[], file)?;
    seal(file).map_err(SnapshotError::Write)?;
    Ok(Saved { pieces: vec![pieces], written })
}

/// What becomes of a page in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays what it is there.
    Left,
    /// It is written.
    Written,
    /// It holds zeros over something else, and becomes a hole.
    Cleared,
}

/// What becomes of each page of a piece: those that are not chosen, which need not be filled in, are left, and those that
/// hold nothing have a fate of their own.
pub(super) fn fates(piece: &[u8], chosen: &[bool], zeros: Fate) -> Vec<Fate> {
    let fate = |(page, is_chosen): (&[u8], &bool)| match is_chosen {
        false => Fate::Left,
        true if page == &ZEROS[..page.len()] => zeros,
        true => Fate::Written,
    };
    piece.chunks(PAGE).zip(chosen).map(fate).collect()
}

/// Writes and clears pages, those in a row at once; the bytes that were written.
pub(super) fn write_pages(
    piece: &[u8],
    fates: &[Fate],
    file: &File,
    offset: u64,
) -> io::Result<u64> {
    let mut written = 0;
    for (first, count) in runs(fates, |fate| *fate == Fate::Written) {
        let end = piece.len().min(first + count);
        file.write_all_at(&piece[first..end], offset + first as u64)?;
        written += count as u64;
    }
    for (first, count) in runs(fates, |fate| *fate == Fate::Cleared) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(file, flags, offset + first as u64, count as u64) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.write_all_at(&piece[first..first + count], offset + first as u64)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Pagemap;
    use crate::snapshot::pagemap::tests::{WRITTEN, told};
    use crate::{memory, sparse};
    use vm_memory::{Bytes, GuestAddress};

    const BYTES: u64 = 64 << 20;
    const PLACES: [u64; 7] = [0, 4096, 8192, 12288, 16384, 20 << 20, 40 << 20];

    fn fill(memory: &GuestMemoryMmap, content: &[(usize, u8)]) {
        for &(place, byte) in content {
            memory.write_obj(byte, GuestAddress(PLACES[place])).unwrap();
        }
    }

    fn read(memory: &GuestMemoryMmap) -> [u8; PLACES.len()] {
        PLACES.map(|place| memory.read_obj(GuestAddress(place)).unwrap())
    }

    fn give_back(memory: &GuestMemoryMmap, place: usize) {
        memory::give_back(memory, GuestAddress(PLACES[place]), 4096).unwrap();
    }

    fn go_on(file: &File, pieces: &[Pieces]) -> GuestMemoryMmap {
        memory::restore(BYTES, [file], pieces).unwrap()
    }

    fn survey(memory: &GuestMemoryMmap) -> Survey {
        Survey::of(memory, &Pagemap::open().unwrap(), None).unwrap()
    }

    /// Saves a memory that lies over these pieces of `file`, which changes while most of it is written; how many
    /// pages were written.
    fn save_changing(
        original: &GuestMemoryMmap,
        base: &[(u64, u64)],
        file: &File,
        change: impl FnOnce(),
    ) -> u64 {
        let ahead = write_ahead(original, survey(original), base, file).unwrap();
        change();
        let saved = catch_up(original, &survey(original), ahead, file).unwrap();
        let Saved { pieces, written } = saved;
        assert_eq!(read(&go_on(file, &pieces)), read(original));
        written / PAGE as u64
    }

    #[test]
    fn what_changes_while_most_is_written_is_saved_as_it_is_at_last() {
        let original = memory::allocate(BYTES).unwrap();
        fill(&original, &[(0, 1), (1, 2), (2, 3), (3, 4), (5, 5)]);
        let file = tempfile::tempfile().unwrap();
        let written = save_changing(&original, &[], &file, || {
            // The same, another, zeros over something, gone, the first of its part; two pages are only now.
            fill(&original, &[(0, 1), (1, 9), (2, 0), (4, 6), (6, 7)]);
            give_back(&original, 3);
            give_back(&original, 5);
        });
        assert_eq!(read(&original), [1, 9, 0, 0, 6, 0, 7]);
        assert_eq!(written, 5 + 3);
    }

    #[test]
    fn what_is_given_back_meanwhile_is_what_lies_beneath() {
        let first = memory::allocate(BYTES).unwrap();
        fill(&first, &[(0, 1), (1, 2), (2, 3), (5, 4)]);
        let file = tempfile::tempfile().unwrap();
        let base = save(&first, survey(&first), &file).unwrap().pieces;
        let copy = go_on(&file, &base);
        fill(&copy, &[(0, 8), (1, 9), (2, 0), (6, 7)]);
        let second = tempfile::tempfile().unwrap();
        sparse::copy(&file, &second).unwrap();
        let written = save_changing(&copy, &base[0], &second, || {
            (0..3).for_each(|place| give_back(&copy, place));
            fill(&copy, &[(3, 5), (5, 6)]);
        });
        assert_eq!(read(&copy), [1, 2, 3, 5, 0, 6, 7]);
        // Three and then five: two that were written, three that were given back.
        assert_eq!(written, 3 + 5);
    }

    #[test]
    fn what_counts_as_unwritten_is_not_looked_at() {
        let original = memory::allocate(BYTES).unwrap();
        fill(&original, &[(0, 1), (1, 2), (2, 3)]);
        let file = tempfile::tempfile().unwrap();
        let ahead = write_ahead(&original, survey(&original), &[], &file).unwrap();
        fill(&original, &[(0, 7), (1, 8)]);
        // The host tells of one of them.
        let (pagemap, watch) = told(&original, WRITTEN, &[(PLACES[1], WRITTEN)]);
        let now = Survey::of(&original, &pagemap, Some(&watch)).unwrap();
        let pieces = catch_up(&original, &now, ahead, &file).unwrap().pieces;
        assert_eq!(read(&go_on(&file, &pieces))[..3], [1, 8, 3]);
    }
}
