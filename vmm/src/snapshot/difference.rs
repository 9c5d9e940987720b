//! What differs between something and what was saved of it before: pages that are the same stay where they
//! are, the others go to a file of their own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::SnapshotError;
use super::ahead::{Fate, fates, write_pages};
use super::memory::{PIECE, ZEROS, runs};
use crate::layers::{self, Layers, PAGE, Pieces};

/// Fewer pages in a row are not worth a piece where the grain is coarse.
const SHORTEST_RUN: usize = 32;
/// More pieces than this take longer to map than the pages that lie between them take to write.
const MOST_PIECES: usize = 4096;

/// A difference that is being written.
#[derive(Debug)]
pub(super) struct Difference<'a> {
    parent: &'a Layers,
    file: &'a File,
    /// What becomes of a page that holds zeros and did not.
    zeros: Fate,
    grain: Grain,
    saved: Saved,
}

/// How fine a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// Nothing is written that does not differ, until the pieces are too many.
    Fine,
    /// Nor do short runs of pages stay in the parent that lie between others: each piece is mapped by itself.
    Coarse,
}

/// What was written as a difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// What counts of the new file, and of each that lay there before.
    pub(crate) pieces: Vec<Pieces>,
    /// The bytes that were written.
    pub(crate) written: u64,
}

impl<'a> Difference<'a> {
    /// Nothing yet, to be written to `file`, which is empty.
    pub(super) fn new(parent: &'a Layers, file: &'a File, grain: Grain) -> Self {
        let pieces = vec![Pieces::new(); 1 + parent.count()];
        let saved = Saved { pieces, written: 0 };
        Self { parent, file, zeros: Fate::Left, grain, saved }
    }

    /// Nothing yet, to be written to `file`, which is the youngest layer of the parent.
    pub(super) fn again(parent: &'a Layers, file: &'a File) -> Self {
        Self { zeros: Fate::Cleared, ..Self::new(parent, file, Grain::Fine) }
    }

    /// Goes on with the pages from `start` on, at most [`PIECE`]. `now` is what is in those of them that may
    /// be others than before.
    pub(super) fn add(
        &mut self,
        start: u64,
        now: &mut [u8],
        suspects: &[bool],
    ) -> Result<(), SnapshotError> {
        let owners = self.parent.owners(start, suspects.len());
        let before = |place: usize, part: &mut [u8]| self.parent.read(start + place as u64, part);
        let mut changed = changed_pages(now, suspects, before).map_err(SnapshotError::Read)?;
        let (is_coarse, has_too_many) =
            (self.grain == Grain::Coarse && changed.contains(&true), self.has_too_many(&changed));
        if is_coarse || has_too_many {
            for (first, count) in runs(suspects, |is_suspect| !is_suspect) {
                let part = &mut now[first..first + count];
                self.parent.read(start + first as u64, part).map_err(SnapshotError::Read)?;
            }
        }
        if is_coarse {
            fill_short_runs(&mut changed);
        }
        if has_too_many {
            let is_something = now.chunks(PAGE).zip(&owners);
            changed = is_something.map(|(page, owner)| owner.is_some() || page != ZEROS).collect();
        }
        self.write(start, now, &changed).map_err(SnapshotError::Write)?;
        for (index, (is_new, owner)) in changed.iter().zip(owners).enumerate() {
            if let Some(layer) = if *is_new { Some(0) } else { owner.map(|owner| owner + 1) } {
                let pieces = &mut self.saved.pieces[layer];
                layers::append(pieces, start + (index * PAGE) as u64, PAGE as u64);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Saved {
        self.saved
    }

    fn has_too_many(&self, changed: &[bool]) -> bool {
        let new = runs(changed, |is_new| *is_new).len();
        let known: usize = self.saved.pieces.iter().map(Vec::len).sum();
        new > 0 && known + 2 * new > MOST_PIECES
    }

    /// Writes the pages that are new; zeros are a hole.
    fn write(&mut self, start: u64, now: &[u8], changed: &[bool]) -> io::Result<()> {
        let fates = fates(now, changed, self.zeros);
        self.saved.written += write_pages(now, &fates, self.file, start)?;
        Ok(())
    }
}

/// Takes short runs of pages along that have not changed, and lie between others.
fn fill_short_runs(changed: &mut [bool]) {
    for (first, count) in runs(changed, |is_new| !is_new) {
        let (first, last) = (first / PAGE, (first + count) / PAGE);
        if first > 0 && last < changed.len() && last - first < SHORTEST_RUN {
            changed[first..last].fill(true);
        }
    }
}

/// Which of the suspects among pages do not hold what `before` fills in, from a place among them on. Little of that is
/// held at once, near the processor, whose caches and TLB have the same place for pages that lie a power of two apart.
pub(super) fn changed_pages(
    now: &[u8],
    suspects: &[bool],
    mut before: impl FnMut(usize, &mut [u8]) -> io::Result<()>,
) -> io::Result<Vec<bool>> {
    const COMPARED: usize = 16 * PAGE;
    let mut changed = vec![false; suspects.len()];
    let mut buffer = vec![0; COMPARED];
    for (first, count) in runs(suspects, |is_suspect| *is_suspect) {
        for place in (first..first + count).step_by(COMPARED) {
            let now = &now[place..(place + COMPARED).min(first + count)];
            let then = &mut buffer[..now.len()];
            before(place, then)?;
            let pages = now.chunks(PAGE).zip(then.chunks(PAGE));
            let verdicts = &mut changed[place / PAGE..];
            verdicts
                .iter_mut()
                .zip(pages)
                .for_each(|(verdict, (now, then))| *verdict = now != then);
        }
    }
    Ok(changed)
}

/// Writes to `to`, which is empty, what in a file differs from what lay in it before, which was as long.
pub(crate) fn save_file(file: &File, parent: &Layers, to: &File) -> Result<Saved, SnapshotError> {
    let own = file.try_clone().and_then(Layers::whole).map_err(SnapshotError::Read)?;
    let length = own.bytes().map_err(SnapshotError::Read)?;
    let next = |at| -> io::Result<Option<u64>> {
        let places = [own.next_data(at)?, parent.next_data(at)?];
        Ok(places.into_iter().flatten().min())
    };
    let data = |at, pages| -> io::Result<Vec<bool>> {
        let (mut data, others) = (own.data(at, pages)?, parent.data(at, pages)?);
        data.iter_mut().zip(others).for_each(|(is_data, other)| *is_data |= other);
        Ok(data)
    };
    let mut difference = Difference::new(parent, to, Grain::Fine);
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Some(found) = next(at).map_err(SnapshotError::Read)? {
        let start = found / PIECE as u64 * PIECE as u64;
        let bytes = PIECE.min(usize::try_from(length - start).unwrap_or(PIECE));
        let now = &mut buffer[..bytes];
        // The rest is zeros in both.
        let suspects = data(start, bytes / PAGE).map_err(SnapshotError::Read)?;
        for (first, count) in runs(&suspects, |is_suspect| *is_suspect) {
            let part = &mut now[first..first + count];
            file.read_exact_at(part, start + first as u64).map_err(SnapshotError::Read)?;
        }
        difference.add(start, now, &suspects)?;
        at = start + bytes as u64;
    }
    to.set_len(length).map_err(SnapshotError::Write)?;
    Ok(difference.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const BYTES: u64 = 16 << 20;

    fn file(content: &[(u64, u8)]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES).unwrap();
        for (page, byte) in content {
            file.write_all_at(&[*byte; PAGE], page * PAGE as u64).unwrap();
        }
        file
    }

    fn flat(file: &File) -> Layers {
        Layers::new(vec![file.try_clone().unwrap()], vec![vec![(0, BYTES)]]).unwrap()
    }

    fn bytes(layers: &Layers) -> Vec<u8> {
        let mut bytes = vec![1; usize::try_from(BYTES).unwrap()];
        layers.read(0, &mut bytes).unwrap();
        bytes
    }

    /// Saves a file over another, and gives what was saved.
    fn over(now: &File, parent: &Layers) -> (Layers, u64) {
        let to = tempfile::tempfile().unwrap();
        let Saved { pieces, written } = save_file(now, parent, &to).unwrap();
        let files = std::iter::once(to);
        let files = files.chain(parent.files().map(|file| file.try_clone().unwrap()));
        let layers = Layers::new(files.collect(), pieces).unwrap();
        assert!(bytes(&layers) == bytes(&flat(now)));
        // As a whole it is a file again.
        let copy = tempfile::tempfile().unwrap();
        layers.copy_to(&copy).unwrap();
        assert!(bytes(&flat(&copy)) == bytes(&flat(now)));
        assert!(copy.metadata().unwrap().blocks() * 512 < BYTES / 4, "it has no holes");
        (layers, written)
    }

    #[test]
    fn short_runs_between_others_are_filled() {
        let mut changed = vec![false; 200];
        for page in [40, 60, 100, 133, 195] {
            changed[page] = true;
        }
        fill_short_runs(&mut changed);
        let expected = [(40, 21), (100, 1), (133, 1), (195, 1)];
        let expected = expected.map(|(first, count)| (first * PAGE, count * PAGE));
        assert_eq!(runs(&changed, |is_new| *is_new), expected);
    }

    #[test]
    fn only_what_differs_is_written_generation_after_generation() {
        let first = file(&[(0, 1), (1, 2), (2, 3), (700, 4), (3000, 5)]);
        let (layers, written) = over(&first, &flat(&first));
        assert_eq!((written, layers.count()), (0, 2));
        let second = file(&[(0, 1), (1, 9), (700, 4), (1200, 6), (3000, 5)]);
        let (layers, written) = over(&second, &flat(&first));
        // Another, zeros over something, a new one.
        assert_eq!(written, 2 * PAGE as u64);
        let third = file(&[(0, 1), (1, 9), (2, 7), (1200, 8)]);
        let (third_layers, written) = over(&third, &layers);
        assert_eq!((written, third_layers.count()), (2 * PAGE as u64, 3));
        // Back to what the oldest had.
        let (last, written) = over(&first, &third_layers);
        assert_eq!((written, last.count()), (4 * PAGE as u64, 4));
    }

    #[test]
    fn pieces_do_not_become_too_many() {
        let every =
            |byte, step| (0..4096).step_by(step).map(|page| (page, byte)).collect::<Vec<_>>();
        let mut both = every(1, 1);
        both.extend(every(2, 2));
        let first = file(&every(1, 1));
        let to = tempfile::tempfile().unwrap();
        let saved = save_file(&file(&both), &flat(&first), &to).unwrap();
        let pieces: usize = saved.pieces.iter().map(Vec::len).sum();
        assert!(pieces <= MOST_PIECES, "{pieces}");
        assert!((BYTES / 2..=BYTES).contains(&saved.written), "{}", saved.written);
        let layers = Layers::new(vec![to, first], saved.pieces).unwrap();
        assert!(bytes(&layers) == bytes(&flat(&file(&both))));
    }
}
