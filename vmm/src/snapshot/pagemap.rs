//! What the host's page tables tell of a guest's memory: which pages its process has of its own, and which of
//! them were written since some moment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, Ordering};

use vm_memory::GuestMemoryMmap;

use super::memory::{PIECE, Part, length, parts};
use crate::layers::PAGE;

/// Bits of an entry of `/proc/PID/pagemap`: there is a page, present or swapped out; it is a file's; nobody
/// else has it; it was written since the bits were cleared (Documentation/admin-guide/mm/pagemap.rst).
const IN_USE: u64 = 0b11 << 62;
const OF_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;
const SOFT_DIRTY: u64 = 1 << 55;
/// The bytes of an entry.
const ENTRY: usize = 8;
/// What `/proc/PID/clear_refs` takes to clear [`SOFT_DIRTY`] of all pages
/// (Documentation/admin-guide/mm/soft-dirty.rst).
const CLEAR_SOFT_DIRTY: &[u8] = b"4";

/// Tells which pages this process has.
#[derive(Debug)]
pub(crate) struct Pagemap(File);

/// What this process has of a page of its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Nothing of its own: the page is what lies behind it.
    Behind,
    /// One of its own that was not written since the moment that was asked about.
    Unwritten,
    /// One of its own that may have been.
    Suspect,
}

/// What this process has of all pages of its guest, at one moment.
#[derive(Debug)]
pub(crate) struct Survey(Vec<Page>);

/// A moment since which the host tells what was written.
///
/// It does so for a whole process, not for whoever asks, and anybody who may look into the process can
/// begin anew. So there is a page that is written at the beginning: nothing holds that is told while that counts as
/// not written. Where the host tells nothing it is the same.
#[derive(Debug)]
pub(crate) struct Watch(Box<Witness>);

/// A page for itself.
#[derive(Debug)]
#[repr(align(4096))]
struct Witness(AtomicU8);

impl Page {
    fn of(entry: u64, is_watched: bool) -> Self {
        if entry & IN_USE == 0 || entry & OF_FILE != 0 {
            return Self::Behind;
        }
        // A page of zeros that was only read, after what was there was given back, does not count as
        // written; but it is everybody's.
        let is_unwritten = entry & SOFT_DIRTY == 0 && entry & EXCLUSIVE != 0;
        if is_watched && is_unwritten { Self::Unwritten } else { Self::Suspect }
    }

    pub(super) fn is_own(self) -> bool {
        self != Self::Behind
    }
}

impl Pagemap {
    /// Opens this process's own.
    ///
    /// # Errors
    /// When the host has none.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// The one that the owner of this process has opened.
    pub(crate) fn opened(file: File) -> Self {
        Self(file)
    }

    /// Reads the entries of as many pages from an address on as there is room for.
    fn read(&self, address: usize, entries: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(entries, (address / PAGE * ENTRY) as u64)
    }
}

impl Watch {
    /// From now on. It costs the guest a fault for each page that it touches afterwards.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn begin(clear_refs: &File) -> io::Result<Self> {
        let witness = Box::new(Witness(AtomicU8::new(0)));
        clear_refs.write_all_at(CLEAR_SOFT_DIRTY, 0)?;
        witness.0.store(1, Ordering::SeqCst);
        Ok(Self(witness))
    }

    /// Whether everything counts as written that was, up to now.
    fn holds(&self, pagemap: &Pagemap) -> io::Result<bool> {
        let mut entry = [0; ENTRY];
        pagemap.read(std::ptr::from_ref(&*self.0).addr(), &mut entry)?;
        Ok(u64::from_le_bytes(entry) & SOFT_DIRTY != 0)
    }
}

impl Survey {
    /// Looks at all pages of a memory. Without a watch that holds all that are the process's own are suspects.
    ///
    /// # Errors
    /// When the host does not tell.
    pub(crate) fn of(
        memory: &GuestMemoryMmap,
        pagemap: &Pagemap,
        watch: Option<&Watch>,
    ) -> io::Result<Self> {
        let mut pages = Vec::with_capacity(usize::try_from(length(memory)).unwrap_or(0) / PAGE);
        let mut entries = [0; PIECE / PAGE * ENTRY];
        for part in parts(memory) {
            let entries = &mut entries[..part.bytes / PAGE * ENTRY];
            pagemap.read(part.host(), entries)?;
            let words = entries.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
            pages.extend(words.map(|entry| Page::of(entry, watch.is_some())));
        }
        // It is asked last, so that it held until everything was read.
        if let Some(watch) = watch
            && !watch.holds(pagemap)?
        {
            let unwritten = pages.iter_mut().filter(|page| **page == Page::Unwritten);
            unwritten.for_each(|page| *page = Page::Suspect);
        }
        Ok(Self(pages))
    }

    /// The pages of a part.
    pub(super) fn pages(&self, part: &Part<'_>) -> &[Page] {
        let first = usize::try_from(part.offset).unwrap_or(usize::MAX) / PAGE;
        &self.0[first..first + part.bytes / PAGE]
    }

    /// How many pages are suspects.
    pub(crate) fn suspects(&self) -> usize {
        self.0.iter().filter(|page| **page == Page::Suspect).count()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::memory;
    use vm_memory::{Bytes, GuestAddress};

    const BYTES: u64 = 4 << 20;
    const OWN: u64 = 1 << 63;
    pub(in crate::snapshot) const WRITTEN: u64 = OWN | EXCLUSIVE | SOFT_DIRTY;

    /// Makes the entry of a page what a host would tell that knows what was written.
    fn tell(entries: &File, address: usize, entry: u64) {
        entries.write_all_at(&entry.to_le_bytes(), (address / PAGE * ENTRY) as u64).unwrap();
    }

    /// A host's page tables of a memory and its watch: of all pages the process has its own, unwritten, but
    /// where `entries` say something else.
    pub(in crate::snapshot) fn told(
        memory: &GuestMemoryMmap,
        witness: u64,
        entries: &[(u64, u64)],
    ) -> (Pagemap, Watch) {
        let file = tempfile::tempfile().unwrap();
        for part in parts(memory) {
            for at in (0..part.bytes).step_by(PAGE) {
                let address = part.address + at as u64;
                let known = entries.iter().find(|(place, _)| *place == address);
                tell(&file, part.host() + at, known.map_or(OWN | EXCLUSIVE, |(_, entry)| *entry));
            }
        }
        let watch = Watch::begin(&tempfile::tempfile().unwrap()).unwrap();
        tell(&file, std::ptr::from_ref(&*watch.0).addr(), witness);
        (Pagemap(file), watch)
    }

    fn pages(memory: &GuestMemoryMmap, pagemap: &Pagemap, watch: Option<&Watch>) -> Vec<Page> {
        Survey::of(memory, pagemap, watch).unwrap().0[..6].to_vec()
    }

    #[test]
    fn what_was_written_since_a_moment_is_suspect() {
        use Page::{Behind, Suspect, Unwritten};
        let memory = memory::allocate(BYTES).unwrap();
        let swapped = 1 << 62;
        let entries = [
            (0, WRITTEN),
            (0x1000, 0),
            (0x2000, OWN | OF_FILE | EXCLUSIVE | SOFT_DIRTY),
            (0x3000, OWN),
            (0x4000, swapped | SOFT_DIRTY),
        ];
        let (pagemap, watch) = told(&memory, WRITTEN, &entries);
        let watched = pages(&memory, &pagemap, Some(&watch));
        assert_eq!(watched, [Suspect, Behind, Behind, Suspect, Suspect, Unwritten]);
        let all = [Suspect, Behind, Behind, Suspect, Suspect, Suspect];
        assert_eq!(pages(&memory, &pagemap, None), all);
        // Somebody else began anew meanwhile, or the host has no such bits.
        let (pagemap, watch) = told(&memory, OWN | EXCLUSIVE, &entries);
        assert_eq!(pages(&memory, &pagemap, Some(&watch)), all);
    }

    #[test]
    fn on_this_host_what_is_written_under_a_watch_is_suspect() {
        let memory = memory::allocate(BYTES).unwrap();
        let write = |page: u64| memory.write_obj(1u8, GuestAddress(page * 4096)).unwrap();
        (0..4).for_each(write);
        let clear_refs = File::options().write(true).open("/proc/self/clear_refs").unwrap();
        let watch = Watch::begin(&clear_refs).unwrap();
        write(2);
        memory::give_back(&memory, GuestAddress(3 * 4096), 4096).unwrap();
        memory.read_obj::<u8>(GuestAddress(3 * 4096)).unwrap();
        let pages = pages(&memory, &Pagemap::open().unwrap(), Some(&watch));
        // Zeros that were only read.
        assert_eq!(pages[2..4], [Page::Suspect; 2]);
    }
}
