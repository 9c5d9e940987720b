//! See `registry::fuzz::registries`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::fuzz::registries(bytes));
