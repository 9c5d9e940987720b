//! A file that was written as differences: layers of files of the same length, of which each has some of its
//! pieces at their own places. What no layer has is zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::sparse;

/// The grain of pieces.
pub(crate) const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

/// Pieces of a file, in order and apart, as places and lengths of whole pages.
pub type Pieces = Vec<(u64, u64)>;

/// Adds a piece to those that begin before it; one that touches the last, or overlaps it, becomes a part of that.
pub(crate) fn append(pieces: &mut Pieces, start: u64, length: u64) {
    match pieces.last_mut() {
        Some((begin, known)) if *begin + *known >= start => {
            *known = (*known).max(start + length - *begin);
        }
        _ => pieces.push((start, length)),
    }
}

/// Pieces in any order, which may touch and overlap, in order and apart.
pub(crate) fn join(mut pieces: Pieces) -> Pieces {
    pieces.sort_unstable();
    let mut joined = Pieces::new();
    pieces.into_iter().for_each(|(start, length)| append(&mut joined, start, length));
    joined
}

/// All of a file of so many bytes.
pub(crate) fn all(length: u64) -> Pieces {
    if length == 0 { Pieces::new() } else { vec![(0, length)] }
}

/// A file in layers, the youngest first.
#[derive(Debug, Default)]
pub struct Layers(Vec<Layer>);

/// A file, and which of its pieces count.
#[derive(Debug)]
struct Layer {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    pieces: Pieces,
}

/// The files, each with its pieces, are not what they are said to be.
const ELSEWHERE: &str = "a piece lies elsewhere";

impl Layers {
    /// Layers of these files, of each of which these pieces count.
    ///
    /// # Errors
    /// When there is another number of them, or a piece is not of whole pages in its file and behind the one
    /// before it.
    pub fn new(files: Vec<File>, pieces: Vec<Pieces>) -> io::Result<Self> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if files.len() != pieces.len() {
            return Err(wrong("it has another number of layers"));
        }
        let layer = |(file, pieces): (File, Pieces)| {
            let metadata = file.metadata()?;
            let mut end = 0;
            for &(start, length) in &pieces {
                let is_whole = |bytes: u64| bytes.is_multiple_of(PAGE_BYTES);
                if start < end || length == 0 || !is_whole(start) || !is_whole(length) {
                    return Err(wrong(ELSEWHERE));
                }
                end = start.checked_add(length).ok_or_else(|| wrong(ELSEWHERE))?;
            }
            if end > metadata.len() {
                return Err(wrong(ELSEWHERE));
            }
            Ok(Layer { file, id: (metadata.dev(), metadata.ino()), pieces })
        };
        files.into_iter().zip(pieces).map(layer).collect::<io::Result<_>>().map(Self)
    }

    /// A file that has everything.
    ///
    /// # Errors
    /// When it is not of whole pages.
    pub fn whole(file: File) -> io::Result<Self> {
        let pieces = all(file.metadata()?.len());
        Self::new(vec![file], vec![pieces])
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The length of the file, in bytes; none without layers.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn bytes(&self) -> io::Result<u64> {
        self.0.first().map_or(Ok(0), |layer| Ok(layer.file.metadata()?.len()))
    }

    /// The files, the youngest first.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.0.iter().map(|layer| &layer.file)
    }

    /// Copies what is in them, if there are any, to an empty file, of their length; the bytes that were copied.
    ///
    /// # Errors
    /// When one cannot be read, or the other not be written.
    pub fn copy_to(&self, to: &File) -> io::Result<u64> {
        let mut copied = 0;
        for layer in &self.0 {
            for &(start, length) in &layer.pieces {
                copied += sparse::copy_data(&layer.file, to, start..start + length)?;
            }
        }
        if !self.0.is_empty() {
            to.set_len(self.bytes()?)?;
        }
        Ok(copied)
    }

    /// For each of so many pages from a place on, which layer has it.
    pub(crate) fn owners(&self, start: u64, pages: usize) -> Vec<Option<usize>> {
        let mut owners = vec![None; pages];
        let end = start + pages as u64 * PAGE_BYTES;
        for (index, layer) in self.0.iter().enumerate() {
            for (first, last) in layer.within(start, end) {
                let page = |at: u64| usize::try_from((at - start) / PAGE_BYTES).unwrap_or(pages);
                owners[page(first)..page(last)].fill(Some(index));
            }
        }
        owners
    }

    /// What tells a layer from others.
    pub(crate) fn id(&self, owner: Option<usize>) -> Option<(u64, u64)> {
        owner.map(|index| self.0[index].id)
    }

    /// Of which of so many pages from a place on a layer has something.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub(crate) fn data(&self, start: u64, pages: usize) -> io::Result<Vec<bool>> {
        let mut data = vec![false; pages];
        let end = start + pages as u64 * PAGE_BYTES;
        for layer in &self.0 {
            for (first, last) in layer.within(start, end) {
                for part in sparse::data(&layer.file, first..last)? {
                    let page = |bytes: u64| usize::try_from(bytes / PAGE_BYTES).unwrap_or(pages);
                    let last = (part.end - start).next_multiple_of(PAGE_BYTES);
                    data[page(part.start - start)..page(last)].fill(true);
                }
            }
        }
        Ok(data)
    }

    /// Fills `buffer`, of whole pages, with what is at `start`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn read(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        let owners = self.owners(start, buffer.len() / PAGE);
        let mut at = 0;
        for run in owners.chunk_by(|one, next| one == next) {
            let part = &mut buffer[at..at + run.len() * PAGE];
            match run[0] {
                Some(index) => self.0[index].file.read_exact_at(part, start + at as u64)?,
                None => part.fill(0),
            }
            at += run.len() * PAGE;
        }
        Ok(())
    }

    /// Where a layer has something next, from `at` on.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub(crate) fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        let mut next = None;
        for layer in &self.0 {
            if let Some(found) = layer.next_data(at)? {
                next = Some(next.map_or(found, |next: u64| next.min(found)));
            }
        }
        Ok(next)
    }
}

impl Layer {
    /// What of its pieces lies between two places.
    fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = self.pieces.partition_point(|(begin, length)| begin + length <= start);
        let some = self.pieces[first..].iter().take_while(move |(begin, _)| *begin < end);
        some.map(move |(begin, length)| (start.max(*begin), end.min(begin + length)))
    }

    fn next_data(&self, mut at: u64) -> io::Result<Option<u64>> {
        loop {
            let Some(data) = sparse::next_data(&self.file, at)? else { return Ok(None) };
            let next = self.pieces.partition_point(|(begin, length)| begin + length <= data);
            let Some(&(begin, _)) = self.pieces.get(next) else { return Ok(None) };
            if begin <= data {
                return Ok(Some(data));
            }
            at = begin;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_touch_are_one() {
        let mut pieces = all(0);
        for (start, length) in [(0, 4), (4, 4), (6, 1), (6, 4), (11, 1)] {
            append(&mut pieces, start, length);
        }
        assert_eq!(pieces, [(0, 10), (11, 1)]);
        assert_eq!(join(vec![(11, 1), (4, 6), (0, 4)]), pieces);
        assert_eq!(all(7), [(0, 7)]);
    }

    #[test]
    fn a_page_is_data_where_a_layer_has_something_that_counts() {
        let file = |pages: &[u64]| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(16 * PAGE_BYTES).unwrap();
            for page in pages {
                file.write_all_at(b"x", page * PAGE_BYTES + 7).unwrap();
            }
            file
        };
        let pieces = |pages: &[(u64, u64)]| -> Pieces {
            pages.iter().map(|(start, count)| (start * PAGE_BYTES, count * PAGE_BYTES)).collect()
        };
        let files = vec![file(&[1, 2, 9]), file(&[0, 5, 6])];
        let layers =
            Layers::new(files, vec![pieces(&[(2, 3)]), pieces(&[(5, 1), (9, 4)])]).unwrap();
        let data = layers.data(PAGE_BYTES, 10).unwrap();
        let found: Vec<usize> =
            (1..).zip(data).filter(|(_, is)| *is).map(|(page, _)| page).collect();
        assert_eq!(found, [2, 5]);
    }
}
