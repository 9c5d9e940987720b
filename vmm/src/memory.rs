//! The guest's memory: private, anonymous, taken from the host as the guest touches it.

use vm_memory::mmap::FromRangesError;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::arch::x86_64::layout;

/// Maps `bytes` of memory around the hole for devices.
///
/// # Errors
/// When the host has not that much address space.
pub(crate) fn allocate(bytes: u64) -> Result<GuestMemoryMmap, FromRangesError> {
    let ranges: Vec<(GuestAddress, usize)> = layout::memory_ranges(bytes)
        .into_iter()
        .map(|(start, length)| {
            let length = usize::try_from(length).expect("addresses have 64 bits");
            (GuestAddress(start), length)
        })
        .collect();
    GuestMemoryMmap::from_ranges(&ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestMemoryBackend};

    #[test]
    fn a_large_guest_has_memory_above_4_gib_and_none_in_the_hole() {
        let memory = allocate(4 << 30).expect("untouched memory costs nothing");
        assert_eq!(memory.num_regions(), 2);
        assert_eq!(memory.last_addr(), GuestAddress((5 << 30) - 1));
        assert!(memory.write_obj(1u8, GuestAddress(layout::MMIO_DEVICES)).is_err());
    }
}
