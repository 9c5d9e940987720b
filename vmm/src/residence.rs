//! What this process keeps of the host's memory: gives back what its start has used and the rest of
//! its life does not.
//!
//! Each process of a container maps the same program, and most of a program is needed once.
#![allow(unsafe_code, reason = "the C library's heap and the program's own pages are its subject")]

use std::ffi::{c_int, c_void};
use std::slice;

use libc::{PF_W, PT_LOAD, dl_phdr_info};
use rustix::mm::{Advice, madvise};

/// The size of a page.
const PAGE: u64 = 4096;

/// Lets all threads to come share one heap. The C library would make one for each of them, which
/// costs four system calls and a few pages; ours allocate little. To be called first of all.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number that the allocator reads under its own lock. Where it is refused, each
    // thread has its heap.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives back the pages of the heap in which nothing is allocated; before a fork, so that no child
/// has them either.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator's own lock is held meanwhile, and what is allocated stays.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Lets go of the program's own pages, code and constants. Those that are needed again come back from
/// the page cache, where they are anyway, as they came the first time; a debugger's breakpoints are
/// gone.
pub fn give_back_text() {
    // SAFETY: `let_go` takes what this function gives to it, for the length of the call.
    unsafe { libc::dl_iterate_phdr(Some(let_go), std::ptr::null_mut()) };
}

/// Lets go of the first object that it is shown, the program itself, and asks for no other.
unsafe extern "C" fn let_go(info: *mut dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    const ENOUGH: c_int = 1;
    // SAFETY: the C library gives a description that is whole during the call.
    let info = unsafe { &*info };
    // SAFETY: as many headers lie there as it says, and none of them changes while the program runs.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let constant = |flags: u32| flags & PF_W == 0;
    for header in headers.iter().filter(|one| one.p_type == PT_LOAD && constant(one.p_flags)) {
        let begin = info.dlpi_addr + header.p_vaddr;
        let (start, end) = whole_pages(begin, begin + header.p_memsz);
        let Ok(length) = usize::try_from(end - start) else { continue };
        let address = std::ptr::with_exposed_provenance_mut(
            usize::try_from(start).expect("addresses have 64 bits"),
        );
        // SAFETY: the pages are mapped from the program's file and were never written to, since their
        // segment may not be; so the kernel brings back what was there, and never sooner or later
        // than at an access.
        let _ = unsafe { madvise(address, length, Advice::LinuxDontNeed) };
    }
    ENOUGH
}

/// The pages that lie in a range of addresses with all their bytes; its end is not below its start.
fn whole_pages(start: u64, end: u64) -> (u64, u64) {
    let start = start.next_multiple_of(PAGE);
    (start, (end & !(PAGE - 1)).max(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::ops::Range;
    use std::os::unix::fs::FileExt;

    #[test]
    fn pages_at_the_edges_are_left() {
        assert_eq!(whole_pages(0x1000, 0x3000), (0x1000, 0x3000));
        assert_eq!(whole_pages(0x1001, 0x3fff), (0x2000, 0x3000));
        assert_eq!(whole_pages(0x1001, 0x1fff), (0x2000, 0x2000));
    }

    /// Where this program's code is, and how many KiB of it are mapped.
    fn text() -> (Vec<Range<u64>>, u64) {
        let program = std::env::current_exe().expect("it runs");
        let program = program.to_str().expect("its path is text");
        let smaps = fs::read_to_string("/proc/self/smaps").expect("it is always there");
        let (mut ranges, mut resident, mut ours) = (Vec::new(), 0, false);
        for line in smaps.lines() {
            if let Some(rest) = line.strip_prefix("Rss:").filter(|_| ours) {
                let kib: u64 = rest.trim().trim_end_matches(" kB").parse().expect("a number");
                resident += kib;
            } else if line.contains("r-xp") || line.contains("rw-p") || line.contains("r--p") {
                ours = line.contains("r-xp") && line.ends_with(program);
                let (range, _) = line.split_once(' ').expect("a range and more");
                let (start, end) = range.split_once('-').expect("a range has two ends");
                let address = |text| u64::from_str_radix(text, 16).expect("a number");
                ranges.extend(ours.then(|| address(start)..address(end)));
            }
        }
        (ranges, resident)
    }

    #[test]
    fn text_that_was_needed_once_is_let_go() {
        let memory = fs::File::open("/proc/self/mem").expect("it is always there");
        for range in text().0 {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("64 bits")];
            memory.read_exact_at(&mut bytes, range.start).expect("it is mapped");
        }
        let (_, before) = text();
        give_back_text();
        let (_, after) = text();
        assert!(after < before, "{before} KiB, then {after} KiB");
    }

    #[test]
    fn the_heap_keeps_what_is_allocated() {
        share_one_heap();
        let kept: Vec<Vec<u8>> = (0..100u8).map(|byte| vec![byte; 10_000]).collect();
        drop(vec![1u8; 100_000]);
        trim_heap();
        assert!((0..100u8).zip(&kept).all(|(byte, piece)| *piece == vec![byte; 10_000]));
    }
}
