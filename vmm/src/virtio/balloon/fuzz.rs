//! The body of the fuzz target for the balloon: whatever a guest reports, what goes are whole pages.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::*;
use crate::fuzz::Image;

const PAGE: usize = 4096;

/// Serves the queues in a guest's memory, all of which lie in its first page; see `fuzz::Image`. The
/// choice says which queue is notified first.
///
/// # Panics
/// When a page behind the queues is neither as it was nor gone.
pub fn balloon(bytes: &[u8]) {
    let mut image = Image::new(bytes, 3);
    let before = contents(&image);
    for queue in 0..3 {
        let queue = (queue + usize::from(image.choice)) % 3;
        // A guest that broke the device has what it deserves.
        let _broken = Balloon.serve(&mut image.activated, queue).is_err();
    }
    let after = contents(&image);
    for (before, after) in before.chunks(PAGE).zip(after.chunks(PAGE)).skip(1) {
        assert!(after == before || after == [0; PAGE], "a page has changed otherwise");
    }
}

/// All of the guest's memory.
pub(super) fn contents(image: &Image) -> Vec<u8> {
    let memory = &image.activated.memory;
    let bytes = usize::try_from(memory.last_addr().0 + 1).expect("the memory is small");
    let mut contents = vec![0; bytes];
    memory.read_slice(&mut contents, GuestAddress(0)).expect("it is memory");
    contents
}
