//! Reports, sound and hostile.

use super::fuzz::contents;
use super::*;
use crate::fuzz::Image;

const PAGE: u64 = 4096;
/// The image's memory, in pages.
const PAGES: u64 = 32;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A guest whose memory is full of ones, but for a chain of these descriptors (address, bytes, flags)
/// in one of its queues.
fn guest(queue: usize, descriptors: &[(u64, u32, u16)]) -> Image {
    let page = usize::try_from(PAGE * PAGES).expect("it is small");
    let mut bytes = vec![1; 1 + page];
    bytes[..=0x600].fill(0);
    let base = 1 + 0x200 * queue;
    for (index, (address, length, flags)) in (0u16..).zip(descriptors) {
        let is_last = usize::from(index) + 1 == descriptors.len();
        let flags = flags | if is_last { 0 } else { NEXT };
        let descriptor =
            [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes()].concat();
        let at = base + 16 * usize::from(index);
        bytes[at..at + 14].copy_from_slice(&descriptor);
        bytes[at + 14..at + 16].copy_from_slice(&(index + 1).to_le_bytes());
    }
    // The driver's ring: one chain, which begins with descriptor 0.
    bytes[base + 0x102] = 1;
    Image::new(&bytes, 3)
}

/// Serves the chain; gives what came of it, the chains given back, and the pages behind the queues that
/// are gone.
fn report(queue: usize, descriptors: &[(u64, u32, u16)]) -> (bool, u8, Vec<u64>) {
    let mut guest = guest(queue, descriptors);
    let served = Balloon.serve(&mut guest.activated, queue);
    let contents = contents(&guest);
    let gone = contents.chunks(4096).zip(0..).skip(1).filter_map(|(page, number)| {
        let is_gone = page.iter().all(|byte| *byte == 0);
        assert!(is_gone || page.iter().all(|byte| *byte == 1), "page {number} is in pieces");
        is_gone.then_some(number)
    });
    (served.is_ok(), contents[0x200 * queue + 0x142], gone.collect())
}

#[test]
fn what_is_reported_goes_and_nothing_else() {
    let chain = [(3 * PAGE, 8192, WRITE), (31 * PAGE, 4096, WRITE), (9 * PAGE, 4096, WRITE)];
    assert_eq!(report(REPORTING, &chain), (true, 1, vec![3, 4, 9, 31]));
}

#[test]
fn what_the_device_may_not_write_stays() {
    assert_eq!(report(REPORTING, &[(3 * PAGE, 8192, 0)]), (true, 1, vec![]));
}

#[test]
fn hostile_reports_end_the_device_and_take_nothing() {
    for (address, length) in [
        (3 * PAGE + 1, 4096),
        (3 * PAGE, 4095),
        (3 * PAGE, 1),
        (3 * PAGE, 0),
        (PAGES * PAGE, 4096),
        (31 * PAGE, 8192),
        (31 * PAGE, u32::MAX - 4095),
        (31 * PAGE, u32::MAX),
        (1 << 40, 4096),
        (u64::MAX - 4095, 4096),
        (u64::MAX - 4095, 8192),
    ] {
        let seen = report(REPORTING, &[(address, length, WRITE)]);
        assert_eq!(seen, (false, 0, vec![]), "{address:#x} {length:#x}");
    }
    // What came before it was sound.
    let seen = report(REPORTING, &[(3 * PAGE, 4096, WRITE), (3 * PAGE + 1, 4096, WRITE)]);
    assert_eq!(seen, (false, 0, vec![3]));
}

#[test]
fn a_guest_that_reports_its_own_rings_loses_them() {
    let (_, _, gone) = report(REPORTING, &[(0, 4096, WRITE), (PAGE, 4096, WRITE)]);
    assert!(gone.len() <= 1, "{gone:?}");
}

#[test]
fn pages_that_nobody_asked_for_are_not_taken() {
    for queue in [0, 1] {
        // Page numbers as they are inflated: 1, 1, 1…
        assert_eq!(report(queue, &[(PAGE, 64, 0)]), (true, 1, vec![]));
        assert_eq!(report(queue, &[(PAGE, 4096, WRITE)]), (true, 1, vec![]));
        assert_eq!(report(queue, &[(u64::MAX, u32::MAX, 0)]), (true, 1, vec![]));
    }
}
