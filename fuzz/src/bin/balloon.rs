//! See `vmm::fuzz::balloon`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vmm::fuzz::balloon(bytes));
