//! A guest's memory as a sparse file: address in the guest's memory, counted without the hole for
//! devices, is offset in the file. What was never touched or is zero is a hole.

use std::fs::File;

use vm_memory::{
    Address, Bytes, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MemoryRegionAddress,
};

use super::SnapshotError;
use super::difference::{Difference, Grain, Saved};
use super::pagemap::{Page, Survey};
use super::whole::seal;
use crate::layers::{self, Layers, PAGE, Pieces};

/// A page without anything; to compare with it is faster than to look at each byte.
pub(super) const ZEROS: [u8; PAGE] = [0; PAGE];
/// What is looked at and written at once, and the grain of the pieces of a memory that is saved as a whole: a
/// huge page.
pub(super) const PIECE: usize = 2 << 20;

/// Writes to `file`, which is empty, what in `memory` differs from what a parent has. The memory lies over the first
/// of these, the parent is the other one: nothing is looked at where the process has a page that was not written since
/// that was saved, or none, and both have the same file's. While the guest runs this is the first of two steps:
/// [`save_difference_again`] is the other one.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn save_difference(
    memory: &GuestMemoryMmap,
    survey: &Survey,
    (beneath, parent): (&Layers, &Layers),
    file: &File,
    grain: Grain,
) -> Result<Saved, SnapshotError> {
    let difference = Difference::new(parent, file, grain);
    let saved = differ(memory, survey, (beneath, parent), difference)?;
    seal_whole(memory, file)?;
    Ok(saved)
}

/// Writes to a file that has a difference already what has changed in the memory since, which stands still now.
/// That file is the first of `layers`, before those of the parent. What is not written since it was begun is not looked at.
///
/// # Errors
/// As [`save_difference`].
pub(crate) fn save_difference_again(
    memory: &GuestMemoryMmap,
    survey: &Survey,
    beneath: &Layers,
    layers: &Layers,
    file: &File,
) -> Result<Saved, SnapshotError> {
    let difference = Difference::again(layers, file);
    let Saved { mut pieces, written } = differ(memory, survey, (beneath, layers), difference)?;
    // What has changed, and what was there and has not.
    let known = pieces.remove(1);
    pieces[0].extend(known);
    pieces[0] = layers::join(std::mem::take(&mut pieces[0]));
    seal_whole(memory, file)?;
    Ok(Saved { pieces, written })
}

fn differ(
    memory: &GuestMemoryMmap,
    survey: &Survey,
    (beneath, parent): (&Layers, &Layers),
    mut difference: Difference<'_>,
) -> Result<Saved, SnapshotError> {
    let mut buffer = vec![0; PIECE];
    for part in parts(memory) {
        let pages = survey.pages(&part);
        let (lower, owners) =
            (beneath.owners(part.offset, pages.len()), parent.owners(part.offset, pages.len()));
        let places = pages.iter().zip(lower).zip(owners);
        let is_other = |((page, lower), owner): ((&Page, _), _)| {
            *page == Page::Behind && beneath.id(lower) != parent.id(owner)
        };
        let others: Vec<bool> = places.map(is_other).collect();
        let mut suspects: Vec<bool> = pages.iter().map(|page| *page == Page::Suspect).collect();
        let now = &mut buffer[..part.bytes];
        part.read(&suspects, now);
        for (first, count) in runs(&others, |is_other| *is_other) {
            let lower = beneath.read(part.offset + first as u64, &mut now[first..first + count]);
            lower.map_err(SnapshotError::Read)?;
        }
        suspects.iter_mut().zip(others).for_each(|(suspect, other)| *suspect |= other);
        difference.add(part.offset, now, &suspects)?;
    }
    let Saved { pieces, written } = difference.finish();
    let pieces = pieces.into_iter().map(|pieces| addresses(memory, &pieces)).collect();
    Ok(Saved { pieces, written })
}

/// Gives a memory's file its length and its mark.
fn seal_whole(memory: &GuestMemoryMmap, file: &File) -> Result<(), SnapshotError> {
    file.set_len(length(memory)).and_then(|()| seal(file)).map_err(SnapshotError::Write)
}

/// A part of a guest's memory, of a piece at most.
pub(super) struct Part<'a> {
    region: &'a GuestRegionMmap,
    /// Where in the region it begins.
    start: u64,
    pub(super) bytes: usize,
    /// In the guest.
    pub(super) address: u64,
    /// In the file.
    pub(super) offset: u64,
}

/// All parts of a memory, in order.
pub(super) fn parts(memory: &GuestMemoryMmap) -> impl Iterator<Item = Part<'_>> {
    let regions = memory.iter().scan(0, |before, region| {
        *before += region.len();
        Some((region, *before - region.len()))
    });
    regions.flat_map(|(region, before)| {
        (0..region.len()).step_by(PIECE).map(move |start| Part {
            region,
            start,
            bytes: PIECE.min(usize::try_from(region.len() - start).unwrap_or(PIECE)),
            address: region.start_addr().raw_value() + start,
            offset: before + start,
        })
    })
}

impl Part<'_> {
    /// Its address in this process.
    pub(super) fn host(&self) -> usize {
        let place = MemoryRegionAddress(self.start);
        self.region.get_host_address(place).expect("the part lies in the region").addr()
    }

    /// Fills in the pages that are wanted.
    pub(super) fn read(&self, wanted: &[bool], buffer: &mut [u8]) {
        for (first, count) in runs(wanted, |is_wanted| *is_wanted) {
            let place = MemoryRegionAddress(self.start + first as u64);
            let part = &mut buffer[first..first + count];
            self.region.read_slice(part, place).expect("the part lies in the region");
        }
    }
}

/// The length of a memory's file.
pub(crate) fn length(memory: &GuestMemoryMmap) -> u64 {
    memory.iter().map(GuestMemoryRegion::len).sum()
}

/// Pieces of a file as pieces of the memory: one that lies on both sides of the hole is two there.
fn addresses(memory: &GuestMemoryMmap, pieces: &[(u64, u64)]) -> Pieces {
    let (mut found, mut before) = (Pieces::new(), 0);
    for region in memory.iter() {
        let end = before + region.len();
        for &(start, length) in pieces {
            let (first, last) = (start.max(before), (start + length).min(end));
            if first < last {
                found.push((region.start_addr().raw_value() + first - before, last - first));
            }
        }
        before = end;
    }
    found
}

/// Whether any of the pieces, which are in order, has something of the `bytes` from `address` on.
pub(crate) fn overlaps(pieces: &[(u64, u64)], address: u64, bytes: u64) -> bool {
    let first = pieces.partition_point(|(begin, length)| begin + length <= address);
    pieces.get(first).is_some_and(|(begin, _)| *begin < address + bytes)
}

/// The runs of pages of which something is true, as places and lengths in bytes.
pub(super) fn runs<T>(pages: &[T], is: impl Fn(&T) -> bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, _) in pages.iter().enumerate().filter(|(_, page)| is(page)) {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == index * PAGE => *count += PAGE,
            _ => runs.push((index * PAGE, PAGE)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FileRange, WorkingSet};
    use crate::snapshot::pagemap::tests::{WRITTEN, told};
    use crate::snapshot::{Pagemap, catch_up, write_ahead};
    use crate::{memory, sparse};
    use std::os::unix::fs::MetadataExt;
    use vm_memory::GuestAddress;

    /// Writes into a guest of `mib`, saves it, and gives the restored copy.
    fn round_trip(mib: u64, content: &[(u64, u8)]) -> (GuestMemoryMmap, Vec<(u64, u64)>, File) {
        let bytes = mib << 20;
        let original = memory::allocate(bytes).unwrap();
        for (address, byte) in content {
            original.write_obj(*byte, GuestAddress(*address)).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        let pieces = saved(&original, &[], &file).pieces.remove(0);
        let copy = restored(mib, &file, &pieces);
        (copy, pieces, file)
    }

    #[test]
    fn what_was_written_is_there_again_and_the_rest_costs_nothing() {
        let high = (4 << 30) + (5 << 20);
        let content = [(0, 1), (4095, 2), (3 << 20, 3), (high, 4)];
        let (copy, pieces, file) = round_trip(4096, &content);
        for (address, byte) in content {
            assert_eq!(copy.read_obj::<u8>(GuestAddress(address)).unwrap(), byte, "{address:#x}");
        }
        assert_eq!(copy.read_obj::<u8>(GuestAddress(100 << 20)).unwrap(), 0);
        assert_eq!(pieces, [(0, 4 << 20), ((4 << 30) + (4 << 20), 2 << 20)]);
        assert_eq!(file.metadata().unwrap().len(), 4 << 30);
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_first_touch_of_what_a_guest_takes_first_brings_one_page() {
        let (copy, _, _) = round_trip(64, &[(0, 1), (4 << 20, 2)]);
        // A hole of the file, and what lies behind all that it has.
        let fresh: Vec<_> = parts(&copy)
            .filter(|part| [2 << 20, 6 << 20, 10 << 20].contains(&part.address))
            .collect();
        for part in &fresh {
            copy.write_obj(9u8, GuestAddress(part.address + 4096)).unwrap();
        }
        let survey = survey(&copy);
        for part in fresh {
            let own = runs(survey.pages(&part), |page| *page == Page::Suspect);
            assert_eq!(own, [(4096, 4096)], "{:#x}", part.address);
        }
    }

    #[test]
    fn a_copy_changes_neither_the_file_nor_another_copy() {
        let (copy, pieces, file) = round_trip(64, &[(0, 1)]);
        copy.write_obj(9u8, GuestAddress(0)).unwrap();
        let other = restored(64, &file, &pieces);
        assert_eq!(other.read_obj::<u8>(GuestAddress(0)).unwrap(), 1);
    }

    #[test]
    fn what_a_copy_gives_back_is_as_it_was_saved() {
        let (copy, pieces, file) = round_trip(64, &[(0, 1), (4096, 2)]);
        let addresses = [0, 4096, 32 << 20].map(GuestAddress);
        for address in addresses {
            copy.write_obj(9u8, address).unwrap();
        }
        memory::give_back(&copy, GuestAddress(4096), 4096).unwrap();
        memory::give_back(&copy, GuestAddress(32 << 20), 2 << 20).unwrap();
        assert_eq!(addresses.map(|address| copy.read_obj::<u8>(address).unwrap()), [9, 2, 0]);
        copy.write_obj(8u8, addresses[1]).unwrap();
        let other = restored(64, &file, &pieces);
        assert_eq!(addresses.map(|address| other.read_obj::<u8>(address).unwrap()), [1, 2, 0]);
    }

    #[test]
    fn what_was_given_back_is_not_saved() {
        let bytes = 64 << 20;
        let original = memory::allocate(bytes).unwrap();
        for address in [0, 8 << 20] {
            original.write_obj(1u8, GuestAddress(address)).unwrap();
        }
        memory::give_back(&original, GuestAddress(8 << 20), 2 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert_eq!(saved(&original, &[], &file).pieces, [[(0, 2 << 20)]]);
    }

    fn saved(memory: &GuestMemoryMmap, base: &[(u64, u64)], file: &File) -> Saved {
        let ahead = write_ahead(memory, survey(memory), base, file).unwrap();
        catch_up(memory, &survey(memory), ahead, file).unwrap()
    }

    fn survey(memory: &GuestMemoryMmap) -> Survey {
        Survey::of(memory, &Pagemap::open().unwrap(), None).unwrap()
    }

    fn restored(mib: u64, file: &File, pieces: &[(u64, u64)]) -> GuestMemoryMmap {
        memory::restore(mib << 20, [file], &[pieces.to_vec()]).unwrap()
    }

    #[test]
    fn a_copy_is_saved_by_what_it_has_written() {
        let content: Vec<_> = (0..400).map(|page| (page * 4096, 1)).collect();
        let (copy, base, file) = round_trip(64, &[&content[..], &[(20 << 20, 2)]].concat());
        // Something new, something else, zeros over something, and what was only read.
        for (address, byte) in [(40 << 20, 3u8), (4096, 4), (8192, 0), (20 << 20, 5)] {
            copy.write_obj(byte, GuestAddress(address)).unwrap();
        }
        memory::give_back(&copy, GuestAddress(20 << 20), 4096).unwrap();
        let read = |memory: &GuestMemoryMmap| {
            [0, 4096, 8192, 12288, 20 << 20, 40 << 20, 60 << 20]
                .map(|address| memory.read_obj::<u8>(GuestAddress(address)).unwrap())
        };
        assert_eq!(read(&copy), [1, 4, 0, 1, 2, 3, 0]);
        let second = tempfile::tempfile().unwrap();
        sparse::copy(&file, &second).unwrap();
        let Saved { pieces, written } = saved(&copy, &base, &second);
        let pieces = &pieces[0];
        assert_eq!(*pieces, [(0, 2 << 20), (20 << 20, 2 << 20), (40 << 20, 2 << 20)]);
        // The host may have given a huge page for the new one, all zeros but for a byte.
        assert_eq!(written, 2 * 4096);
        let again = restored(64, &second, pieces);
        assert_eq!(read(&again), read(&copy));
        assert_eq!(read(&restored(64, &file, &base))[1], 1);
        // And once more, from that one.
        again.write_obj(9u8, GuestAddress(12288)).unwrap();
        let third = tempfile::tempfile().unwrap();
        sparse::copy(&second, &third).unwrap();
        let last = saved(&again, pieces, &third);
        assert_eq!((last.written, &last.pieces[0]), (4096, pieces));
        assert_eq!(read(&restored(64, &third, pieces)), read(&again));
    }

    /// Saves a memory by what differs from a parent, and goes on from that.
    fn differing(
        mib: u64,
        memory: &GuestMemoryMmap,
        beneath: &Layers,
        parent: &Layers,
    ) -> (GuestMemoryMmap, Layers, u64) {
        let file = tempfile::tempfile().unwrap();
        let (survey, places) = (survey(memory), (beneath, parent));
        let saved = save_difference(memory, &survey, places, &file, Grain::Fine).unwrap();
        let files = std::iter::once(file);
        let files = files.chain(parent.files().map(|file| file.try_clone().unwrap()));
        let files: Vec<File> = files.collect();
        let copy = memory::restore(mib << 20, &files, &saved.pieces).unwrap();
        (copy, memory::layers(mib << 20, files, &saved.pieces).unwrap(), saved.written)
    }

    #[test]
    fn a_difference_is_what_was_written_since() {
        let (mib, high) = (3 * 1024 + 64, (4 << 30) + (5 << 20));
        let content: Vec<_> = (0..400).map(|page| (page * 4096, 1)).collect();
        // The last page below the hole, and the first behind it.
        let (below, behind) = ((3 << 30) - 4096, 4 << 30);
        let (copy, base, file) =
            round_trip(mib, &[&content[..], &[(high, 2), (below, 3), (behind, 4)]].concat());
        let first = memory::layers(mib << 20, vec![file], &[base]).unwrap();
        let places = [0, 4096, 8192, 12288, 40 << 20, high, below, behind, high + 4096];
        let read = |memory: &GuestMemoryMmap| {
            places.map(|address| memory.read_obj::<u8>(GuestAddress(address)).unwrap())
        };
        // Something else, the same, zeros over something, something new, and what the file has again.
        let writes = [(4096, 7u8), (8192, 1), (12288, 0), (40 << 20, 5), (below, 8), (behind, 9)];
        for (address, byte) in writes.into_iter().chain([(high, 6)]) {
            copy.write_obj(byte, GuestAddress(address)).unwrap();
        }
        memory::give_back(&copy, GuestAddress(high), 4096).unwrap();
        let (again, second, written) = differing(mib, &copy, &first, &first);
        assert_eq!(read(&copy), [1, 7, 1, 0, 5, 2, 8, 9, 0]);
        assert_eq!((read(&again), written), (read(&copy), 4 * 4096));
        // The same machine once more, over what was just saved of it: all it has of its own is compared.
        copy.write_obj(6u8, GuestAddress(0)).unwrap();
        memory::give_back(&copy, GuestAddress(4096), 4096).unwrap();
        let (once_more, _, written) = differing(mib, &copy, &first, &second);
        assert_eq!((read(&once_more), written), (read(&copy), 2 * 4096));
        // And the next generation.
        again.write_obj(3u8, GuestAddress(high + 4096)).unwrap();
        let (third, layers, written) = differing(mib, &again, &second, &second);
        assert_eq!((read(&third), written, layers.count()), (read(&again), 4096, 3));
    }

    #[test]
    fn a_difference_that_changes_while_it_is_written_is_saved_as_it_is_at_last() {
        let content: Vec<_> = (0..8).map(|page| (page * 4096, 1)).collect();
        let (copy, base, file) = round_trip(64, &content);
        let parent = memory::layers(64 << 20, vec![file], &[base]).unwrap();
        let write = |pages: &[(u64, u8)]| {
            for (page, byte) in pages {
                copy.write_obj(*byte, GuestAddress(page * 4096)).unwrap();
            }
        };
        let give_back =
            |page: u64| memory::give_back(&copy, GuestAddress(page * 4096), 4096).unwrap();
        let read = |memory: &GuestMemoryMmap| {
            let page = |page: u64| memory.read_obj::<u8>(GuestAddress(page * 4096)).unwrap();
            (0..8).chain([1024, 2048]).map(page).collect::<Vec<_>>()
        };
        write(&[(0, 2), (1, 3), (2, 4), (3, 5), (4, 0), (1024, 6)]);
        let (own, places) = (tempfile::tempfile().unwrap(), (&parent, &parent));
        let ahead = save_difference(&copy, &survey(&copy), places, &own, Grain::Coarse).unwrap();
        assert_eq!(ahead.written, 5 * 4096);
        // The same, another, zeros over something, as it was, something over zeros, gone, new.
        write(&[(0, 2), (1, 7), (2, 0), (4, 8), (5, 9), (2048, 10)]);
        give_back(3);
        give_back(1024);
        let files = || {
            let files = std::iter::once(&own).chain(parent.files());
            files.map(|file| file.try_clone().unwrap()).collect::<Vec<_>>()
        };
        let layers = memory::layers(64 << 20, files(), &ahead.pieces).unwrap();
        let last = save_difference_again(&copy, &survey(&copy), &parent, &layers, &own).unwrap();
        assert_eq!(read(&copy), [2, 7, 0, 1, 8, 9, 1, 1, 0, 10]);
        assert_eq!(last.written, 5 * 4096, "{:?}", last.pieces);
        assert_eq!(last.pieces.len(), 2);
        let again = memory::restore(64 << 20, &files(), &last.pieces).unwrap();
        assert_eq!(read(&again), read(&copy));
    }

    #[test]
    fn what_counts_as_unwritten_is_as_the_parent_has_it() {
        let (copy, base, file) = round_trip(64, &[(0, 1), (4096, 2), (8192, 3)]);
        let parent = memory::layers(64 << 20, vec![file], &[base]).unwrap();
        for address in [0, 4096, 8192] {
            copy.write_obj(9u8, GuestAddress(address)).unwrap();
        }
        // The host tells of one of them, and that another one was given back.
        let (pagemap, watch) = told(&copy, WRITTEN, &[(4096, WRITTEN), (8192, 0)]);
        let survey = Survey::of(&copy, &pagemap, Some(&watch)).unwrap();
        let (own, places) = (tempfile::tempfile().unwrap(), (&parent, &parent));
        let saved = save_difference(&copy, &survey, places, &own, Grain::Fine).unwrap();
        assert_eq!((&saved.pieces[0], saved.written), (&vec![(4096, 4096)], 4096));
        let mut files = vec![own];
        files.extend(parent.files().map(|file| file.try_clone().unwrap()));
        let again = memory::restore(64 << 20, &files, &saved.pieces).unwrap();
        let read = |page: u64| again.read_obj::<u8>(GuestAddress(page * 4096)).unwrap();
        assert_eq!([0, 1, 2].map(read), [1, 9, 3]);
    }

    #[test]
    fn pieces_overlap_where_they_share_a_byte() {
        let pieces = [(4096, 4096), (1 << 20, 1 << 20)];
        for (address, bytes, expected) in [
            (0, 4096, false),
            (0, 4097, true),
            (8191, 1, true),
            (8192, 4096, false),
            (8192, 1 << 20, true),
            (2 << 20, 1 << 20, false),
        ] {
            assert_eq!(overlaps(&pieces, address, bytes), expected, "{address}");
        }
    }

    #[test]
    fn what_is_touched_ahead_is_as_it_was() {
        let (copy, pieces, file) = round_trip(64, &[(0, 1), (5 << 20, 2)]);
        let anything = vec![
            FileRange { offset: 0, length: 8192 },
            FileRange { offset: 64 << 20, length: 4096 },
            FileRange { offset: 100, length: u64::MAX },
            FileRange { offset: 4 << 20, length: 3 << 20 },
        ];
        let anything = WorkingSet { written: anything.clone(), read: anything };
        memory::prefault(&copy, 64 << 20, &anything);
        assert_eq!(copy.read_obj::<u8>(GuestAddress(0)).unwrap(), 1);
        assert_eq!(copy.read_obj::<u8>(GuestAddress(5 << 20)).unwrap(), 2);
        let other = restored(64, &file, &pieces);
        assert_eq!(other.read_obj::<u8>(GuestAddress(0)).unwrap(), 1);
    }

    #[test]
    fn pieces_that_lie_elsewhere_are_refused() {
        let (_, _, file) = round_trip(64, &[(0, 1)]);
        for pieces in [
            vec![(0, 65 << 20)],
            vec![(64 << 20, 4096)],
            vec![(1, 4096)],
            vec![(0, 100)],
            vec![(u64::MAX - 4095, 8192)],
            vec![(4096, 4096), (0, 4096)],
            vec![(0, 0)],
        ] {
            assert!(
                memory::restore(64 << 20, [&file], std::slice::from_ref(&pieces)).is_err(),
                "{pieces:?}"
            );
        }
        let short = tempfile::tempfile().unwrap();
        assert!(memory::restore(64 << 20, [&short], &[vec![(0, 4096)]]).is_err());
        assert!(memory::restore(64 << 20, [&file], &[vec![], vec![]]).is_err());
    }
}
