//! The guest's memory: private, taken from the host as the guest touches it; anonymous, but where a
//! saved machine's memory lies behind it.
#![allow(unsafe_code, reason = "a mapping at an address of our choice is a raw pointer")]

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use vm_memory::mmap::MmapRegion;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    VolatileMemory,
};

use crate::arch::x86_64::layout;
use crate::config::{SMALL_FRESH_BYTES, WorkingSet};
use crate::layers::{Layers, Pieces};
use crate::snapshot;

/// The size of a small page.
const PAGE: u64 = 4096;
/// The size of a huge page, and of an entry of KVM's second-level page tables that maps one.
const HUGE_PAGE: usize = 2 << 20;
/// The most that is copied ahead, and the most that is mapped ahead, in bytes.
const MAX_WORKING_SET: u64 = 64 << 20;

/// Maps `bytes` of memory around the hole for devices. It stays mapped as long as the process
/// lives, as a machine does.
///
/// # Errors
/// When the host has not that much address space.
pub(crate) fn allocate(bytes: u64) -> io::Result<GuestMemoryMmap> {
    let mut regions = Vec::new();
    for (start, length) in layout::memory_ranges(bytes) {
        let length = usize::try_from(length).expect("addresses have 64 bits");
        let region = GuestRegionMmap::new(map(length)?, GuestAddress(start));
        regions.push(region.expect("the layout's ranges end below 2^64"));
    }
    Ok(GuestMemoryMmap::from_regions(regions).expect("the layout's ranges are apart"))
}

/// Maps `bytes` of memory with what was saved of a machine's in it, as [`lay_over`] does.
///
/// # Errors
/// As [`lay_over`].
pub(crate) fn restore<'a>(
    bytes: u64,
    files: impl IntoIterator<Item = &'a File>,
    pieces: &[Pieces],
) -> io::Result<GuestMemoryMmap> {
    let memory = lay_over(bytes, files, pieces)?;
    keep_small(&memory, pieces);
    Ok(memory)
}

/// Maps `bytes` of memory with something in it: of each of these files these pieces, as addresses and lengths; what
/// the guest writes stays its own. No file may change or become shorter as long as the machine lives.
///
/// # Errors
/// When there is another number of files, one has another length or was changed, a piece lies elsewhere, or the
/// host has not the address space.
pub(crate) fn lay_over<'a>(
    bytes: u64,
    files: impl IntoIterator<Item = &'a File>,
    pieces: &[Pieces],
) -> io::Result<GuestMemoryMmap> {
    let memory = allocate(bytes)?;
    let mut files = files.into_iter();
    for pieces in pieces {
        let file = files.next().ok_or_else(|| invalid("a file is missing"))?;
        snapshot::check_memory(file, bytes)?;
        for Placed { address, length, offset } in place(bytes, pieces)? {
            let slice = memory.get_slice(address, length).expect("the piece lies in the memory");
            let start = slice.ptr_guard_mut().as_ptr();
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
            // SAFETY: the range lies in memory that was just mapped and that nobody has looked at yet;
            // it stays mapped, to the same length and for reading and writing.
            unsafe { mmap(start.cast(), length, protection, flags, file, offset) }?;
        }
    }
    Ok(memory)
}

/// The files of a saved machine's memory of `bytes` as layers, with these pieces of each, as addresses and
/// lengths.
///
/// # Errors
/// When a piece lies elsewhere, or there is another number of files.
pub(crate) fn layers(bytes: u64, files: Vec<File>, pieces: &[Pieces]) -> io::Result<Layers> {
    let placed = |pieces: &Pieces| -> io::Result<Pieces> {
        let placed = place(bytes, pieces)?.into_iter();
        Ok(placed.map(|piece| (piece.offset, piece.length as u64)).collect())
    };
    Layers::new(files, pieces.iter().map(placed).collect::<io::Result<_>>()?)
}

/// A piece of a saved machine's memory, and where its file has it.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) address: GuestAddress,
    pub(crate) length: usize,
    pub(crate) offset: u64,
}

/// Places `pieces`, addresses and lengths, in a memory of `bytes` and its file.
///
/// # Errors
/// When one is not of whole pages, lies elsewhere, or not behind the one before it.
pub(crate) fn place(bytes: u64, pieces: &[(u64, u64)]) -> io::Result<Vec<Placed>> {
    let elsewhere = || invalid("a piece lies elsewhere");
    let mut placed = Vec::with_capacity(pieces.len());
    let mut end = 0;
    for &(address, length) in pieces {
        let is_whole = |bytes: u64| bytes.is_multiple_of(PAGE);
        if address < end || length == 0 || !is_whole(address) || !is_whole(length) {
            return Err(elsewhere());
        }
        end = address.checked_add(length).ok_or_else(elsewhere)?;
        let offset = layout::memory_offset(bytes, address, length).ok_or_else(elsewhere)?;
        let length = usize::try_from(length).map_err(|_| elsewhere())?;
        placed.push(Placed { address: GuestAddress(address), length, offset });
    }
    Ok(placed)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Does ahead what a guest's first touches would each leave it for: copies the pages that it will write,
/// and maps those that it will read. The rest stays unmapped, so that a copy holds what it uses. To be
/// called on a thread beside the rest of a start. What makes no sense is passed over: nothing depends
/// on it. Gives what it touched, as addresses and lengths.
pub(crate) fn prefault(memory: &GuestMemoryMmap, bytes: u64, working_set: &WorkingSet) -> Pieces {
    let mut touched = Pieces::new();
    for (ranges, advice) in [
        (&working_set.written, Advice::LinuxPopulateWrite),
        (&working_set.read, Advice::LinuxPopulateRead),
    ] {
        let mut left = MAX_WORKING_SET;
        for range in ranges {
            let length = range.length.min(left);
            left -= length;
            let (mut offset, end) = (range.offset, range.offset.saturating_add(length));
            // In steps, since whoever maps memory meanwhile waits for one of them; none lies on both sides of
            // the hole, whose ends are those of huge pages.
            while offset < end {
                let next = end.min((offset | (HUGE_PAGE as u64 - 1)).saturating_add(1));
                if let Some(address) = layout::memory_address(bytes, offset) {
                    advise(memory, address, next - offset, advice);
                    touched.push((address, next - offset));
                }
                offset = next;
            }
        }
    }
    touched
}

/// Has the host clear what a Linux that boots fills in its first milliseconds: a `struct page` for each page, at the end
/// of the memory (`sparse_buffer_init` in mm/sparse.c), below what it took before that, and the hash tables of dentries
/// and inodes, below them. To be called on a thread beside the boot, which would leave for each huge page of it and
/// wait.
pub(crate) fn touch_tables(memory: &GuestMemoryMmap, bytes: u64) {
    const TAKEN_BEFORE: u64 = HUGE_PAGE as u64;
    let tables = bytes / PAGE * 64 + bytes / 512;
    let length = tables.next_multiple_of(HUGE_PAGE as u64) + TAKEN_BEFORE;
    for offset in (bytes.saturating_sub(length)..bytes).step_by(HUGE_PAGE) {
        let address = layout::memory_address(bytes, offset).map(GuestAddress);
        let Some(slice) = address.and_then(|it| memory.get_slice(it, 1).ok()) else { continue };
        // A write that changes nothing, whatever the guest writes there. `madvise` would keep those waiting who map
        // memory, and those who touch some behind them.
        if let Ok(byte) = slice.get_atomic_ref::<AtomicU8>(0) {
            let _ = byte.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Has the host give small pages where a guest will touch little of what is fresh: a huge page that the first touch
/// brought would be the copy's own for good.
fn keep_small(memory: &GuestMemoryMmap, pieces: &[Pieces]) {
    const BLOCK: u64 = HUGE_PAGE as u64;
    let starts = memory.iter().flat_map(|region| {
        let start = region.start_addr().0;
        (start..start + region.len()).step_by(HUGE_PAGE)
    });
    let is_fresh =
        |start: &u64| !pieces.iter().any(|pieces| snapshot::overlaps(pieces, *start, BLOCK));
    for start in starts.filter(is_fresh).take((SMALL_FRESH_BYTES / BLOCK) as usize) {
        advise(memory, start, BLOCK, Advice::LinuxNoHugepage);
    }
}

fn advise(memory: &GuestMemoryMmap, address: u64, length: u64, advice: Advice) {
    let Ok(length) = usize::try_from(length) else { return };
    let Ok(slice) = memory.get_slice(GuestAddress(address), length) else { return };
    let start = slice.ptr_guard_mut().as_ptr();
    // A host whose kernel is older than 5.14 refuses, and so does this for half a page.
    // SAFETY: the range lies in memory that stays mapped; what is in it stays as it is.
    let _ = unsafe { madvise(start.cast(), length, advice) };
}

/// Gives the host back what lies behind these pages; they then hold zeros, or what the file of a saved
/// machine has there. None if they are not whole pages in one range of the memory.
///
/// A host that refuses keeps what it gave.
pub(crate) fn give_back(memory: &GuestMemoryMmap, address: GuestAddress, bytes: u32) -> Option<()> {
    let is_whole = |number: u64| number.is_multiple_of(PAGE);
    if bytes == 0 || !is_whole(address.0) || !is_whole(bytes.into()) {
        return None;
    }
    let slice = memory.get_slice(address, usize::try_from(bytes).ok()?).ok()?;
    let start = slice.ptr_guard_mut().as_ptr();
    // SAFETY: the pages lie in memory that stays mapped, the guest's to change at any time, so that
    // nobody holds a reference to what is in them.
    let _ = unsafe { madvise(start.cast(), slice.len(), Advice::LinuxDontNeed) };
    Some(())
}

/// Maps `length` bytes where the host may use huge pages, and says that it should: the first touch
/// of a page is an exit to KVM, and a boot touches thousands of small ones. A guest's address and
/// the host's must be the same modulo the huge page's size for that; every range of the guest's
/// begins at a multiple of it.
fn map(length: usize) -> io::Result<MmapRegion> {
    let reserved = length + HUGE_PAGE;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses touches no other.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), reserved, protection, flags) }?;
    let before = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    let aligned = start.wrapping_byte_add(before);
    let end = aligned.wrapping_byte_add(length);
    if before > 0 {
        // SAFETY: the pages lie in the mapping just made, below `aligned`; nobody knows of them.
        unsafe { munmap(start, before) }?;
    }
    // SAFETY: the pages lie in the mapping just made, from `end` on; nobody knows of them.
    unsafe { munmap(end, HUGE_PAGE - before) }?;
    // A host without huge pages refuses, and is only slower.
    // SAFETY: the advice changes how the pages are backed, not what is in them.
    let _ = unsafe { madvise(aligned, length, Advice::LinuxHugepage) };
    let bits = i32::try_from(protection.bits()).expect("two low bits");
    // SAFETY: `length` bytes from `aligned` are mapped readable and writable, used by nobody
    // else, and never unmapped.
    let region = unsafe { MmapRegion::build_raw(aligned.cast(), length, bits, 0) };
    Ok(region.expect("the address is that of a page"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileRange;
    use std::os::unix::fs::FileExt;
    use vm_memory::{Bytes, MemoryRegionAddress};

    #[test]
    fn a_large_guest_has_memory_above_4_gib_and_none_in_the_hole() {
        let memory = allocate(4 << 30).expect("untouched memory costs nothing");
        assert_eq!(memory.num_regions(), 2);
        assert_eq!(memory.last_addr(), GuestAddress((5 << 30) - 1));
        assert!(memory.write_obj(1u8, GuestAddress(layout::MMIO_DEVICES)).is_err());
    }

    #[test]
    fn what_is_touched_ahead_goes_around_the_hole() {
        const GIB: u64 = 1 << 30;
        let memory = allocate(4 * GIB).expect("untouched memory costs nothing");
        let around = FileRange { offset: 3 * GIB - 4096, length: 8192 };
        let beyond = FileRange { offset: 4 * GIB - 4096, length: 8192 };
        let working_set = WorkingSet { written: vec![around], read: vec![beyond] };
        let touched = prefault(&memory, 4 * GIB, &working_set);
        assert_eq!(
            touched,
            [(3 * GIB - 4096, 4096), (4 * GIB, 4096), (5 * GIB - 4096, 4096)],
            "below the hole, above it, and at the end"
        );
    }

    /// Which huge pages of a memory the process has of its own, by their numbers; no page of zeros is.
    fn owned(memory: &GuestMemoryMmap) -> Vec<u64> {
        const OWN: u64 = 1 << 63 | 1 << 56;
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let end = memory.last_addr().0;
        let starts = (0..=end).step_by(HUGE_PAGE).map(GuestAddress);
        let is_own = |start: &GuestAddress| {
            let Ok(host) = memory.get_host_address(*start) else { return false };
            let mut entry = [0; 8];
            pagemap.read_exact_at(&mut entry, host.addr() as u64 / PAGE * 8).unwrap();
            u64::from_ne_bytes(entry) & OWN == OWN
        };
        starts.filter(is_own).map(|start| start.0 / HUGE_PAGE as u64).collect()
    }

    #[test]
    fn what_a_boot_fills_first_lies_at_the_end() {
        const MIB: u64 = 1 << 20;
        for (mib, first, end) in [(4096, 2560 - 37, 2560), (64, 30, 32), (2, 0, 1)] {
            let memory = allocate(mib * MIB).expect("untouched memory costs nothing");
            let last = memory.last_addr();
            let byte = GuestAddress(last.0 + 1 - HUGE_PAGE as u64);
            memory.write_obj(7u8, byte).expect("it is memory");
            touch_tables(&memory, mib * MIB);
            assert_eq!(owned(&memory), Vec::from_iter(first..end), "{mib} MiB");
            assert_eq!(memory.read_obj::<u8>(byte).expect("it is memory"), 7);
        }
    }

    #[test]
    fn what_is_given_back_is_zeros_and_all_else_stays() {
        let memory = allocate(4 << 30).expect("untouched memory costs nothing");
        let pages = [0x1000, 0x2000, 0x3000, 0x4000].map(GuestAddress);
        for page in pages {
            memory.write_slice(&[7; 4096], page).expect("it is memory");
        }
        give_back(&memory, pages[1], 8192).expect("they are pages");
        let held = pages.map(|page| memory.read_obj::<[u8; 16]>(page).expect("it is memory")[15]);
        assert_eq!(held, [7, 0, 0, 7]);
    }

    #[test]
    fn what_is_not_all_memory_is_not_given_back() {
        let memory = allocate(4 << 30).expect("untouched memory costs nothing");
        for (address, bytes) in [
            (layout::DEVICE_HOLE, 4096),
            (layout::MMIO_DEVICES, 4096),
            (layout::DEVICE_HOLE - 4096, 8192),
            (layout::DEVICE_HOLE_END - 4096, 8192),
            ((5 << 30) - 4096, 8192),
            (5 << 30, 4096),
            (4096, 0),
            (4096, 4095),
            (4097, 4096),
            (u64::MAX - 4095, 4096),
        ] {
            assert!(give_back(&memory, GuestAddress(address), bytes).is_none(), "{address:#x}");
        }
        give_back(&memory, GuestAddress(0), 1 << 31).expect("all of it is memory");
    }

    #[test]
    fn huge_pages_fit_and_the_last_byte_is_there() {
        let memory = allocate(65 << 20).expect("untouched memory costs nothing");
        for region in memory.iter() {
            let host = region.get_host_address(MemoryRegionAddress(0)).expect("mapped");
            assert_eq!(host.addr() % HUGE_PAGE, 0);
        }
        memory.write_obj(7u8, memory.last_addr()).expect("writable");
        assert_eq!(memory.read_obj::<u8>(memory.last_addr()).expect("readable"), 7);
    }
}
