//! See `vmm::fuzz::net`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vmm::fuzz::net(bytes));
