//! A guest's memory as a sparse file: address in the guest's memory, counted without the hole for
//! devices, is offset in the file. What was never touched or is zero is a hole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vm_memory::{
    Address, Bytes, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress,
};

use super::SnapshotError;
use super::whole::seal;

const PAGE: usize = 4096;
/// What is looked at and written at once, and the grain of the pieces that are told: a huge page.
const PIECE: usize = 2 << 20;
/// The bits of an entry of `/proc/PID/pagemap` that say that there is a page: present, or swapped
/// out (Documentation/admin-guide/mm/pagemap.rst).
const PAGEMAP_IN_USE: u64 = 0b11 << 62;

/// Tells which pages of this process were ever touched.
#[derive(Debug)]
pub(crate) struct Pagemap(File);

impl Pagemap {
    /// Opens this process's own.
    ///
    /// # Errors
    /// When the host has none.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Whether any of the `bytes` from `address` on was touched.
    fn is_touched(&self, address: usize, bytes: usize) -> io::Result<bool> {
        let mut entries = [0; PIECE / PAGE * 8];
        let entries = &mut entries[..bytes.div_ceil(PAGE) * 8];
        self.0.read_exact_at(entries, (address / PAGE * 8) as u64)?;
        let mut words = entries.chunks_exact(8);
        Ok(words.any(|word| {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            word & PAGEMAP_IN_USE != 0
        }))
    }
}

/// Writes what is in `memory` to `file`, which is empty; gives the pieces that hold something, in
/// order, in addresses of the guest and bytes.
///
/// # Errors
/// When the file cannot be written, or the host does not tell which pages there are.
pub(crate) fn save(
    memory: &GuestMemoryMmap,
    pagemap: &Pagemap,
    file: &File,
) -> Result<Vec<(u64, u64)>, SnapshotError> {
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    for region in memory.iter() {
        for start in (0..region.len()).step_by(PIECE) {
            let bytes = PIECE.min(usize::try_from(region.len() - start).unwrap_or(PIECE));
            let host = region.get_host_address(MemoryRegionAddress(start));
            let host = host.expect("the piece lies in the region").addr();
            if !pagemap.is_touched(host, bytes).map_err(SnapshotError::Read)? {
                continue;
            }
            let piece = &mut buffer[..bytes];
            region.read_slice(piece, MemoryRegionAddress(start)).expect("it lies in the region");
            if write_pages(piece, file, offset + start).map_err(SnapshotError::Write)? {
                let address = region.start_addr().raw_value() + start;
                match pieces.last_mut() {
                    Some((begin, length)) if *begin + *length == address => *length += bytes as u64,
                    _ => pieces.push((address, bytes as u64)),
                }
            }
        }
        offset += region.len();
    }
    file.set_len(offset).and_then(|()| seal(file)).map_err(SnapshotError::Write)?;
    Ok(pieces)
}

/// Writes the pages that are not zero, those in a row at once; says whether there were any.
fn write_pages(piece: &[u8], file: &File, offset: u64) -> io::Result<bool> {
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut begin = None;
    let mut written = false;
    let pages = piece.chunks(PAGE).map(is_zero).chain([true]);
    for (index, zero) in pages.enumerate() {
        match (begin, zero) {
            (None, false) => begin = Some(index * PAGE),
            (Some(start), true) => {
                let end = piece.len().min(index * PAGE);
                file.write_all_at(&piece[start..end], offset + start as u64)?;
                begin = None;
                written = true;
            }
            _ => {}
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FileRange, WorkingSet};
    use crate::memory;
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
        let pieces = save(&original, &Pagemap::open().unwrap(), &file).unwrap();
        let copy = memory::restore(bytes, &file, &pieces).unwrap();
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
    fn a_copy_changes_neither_the_file_nor_another_copy() {
        let (copy, pieces, file) = round_trip(64, &[(0, 1)]);
        copy.write_obj(9u8, GuestAddress(0)).unwrap();
        let other = memory::restore(64 << 20, &file, &pieces).unwrap();
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
        let other = memory::restore(64 << 20, &file, &pieces).unwrap();
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
        let pieces = save(&original, &Pagemap::open().unwrap(), &file).unwrap();
        assert_eq!(pieces, [(0, 2 << 20)]);
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
        let other = memory::restore(64 << 20, &file, &pieces).unwrap();
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
            assert!(memory::restore(64 << 20, &file, &pieces).is_err(), "{pieces:?}");
        }
        let short = tempfile::tempfile().unwrap();
        assert!(memory::restore(64 << 20, &short, &[(0, 4096)]).is_err());
    }
}
