//! See `vmm::fuzz::kernel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vmm::fuzz::kernel(bytes));
