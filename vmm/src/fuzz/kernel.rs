//! Kernels: ELF files and bzImages, loaded into memory as far as they go.

use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::file;
use crate::arch::x86_64::boot_params;
use crate::loader;

/// The smallest machine's memory.
const MEMORY_BYTES: usize = 64 << 20;

/// Loads `bytes` as a kernel, and tells it of its memory.
///
/// # Panics
/// When something outside of the memory would be touched.
pub fn kernel(bytes: &[u8]) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]);
    let memory = memory.expect("the host has room");
    let mut file = file(bytes);
    if let Ok(kernel) = loader::load_kernel(&memory, &mut file, "quiet") {
        boot_params::write(&memory, MEMORY_BYTES as u64, &kernel, None)
            .expect("the zero page has its place");
    }
}
