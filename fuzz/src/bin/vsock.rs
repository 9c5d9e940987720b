//! See `vmm::fuzz::vsock`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vmm::fuzz::vsock(bytes));
