//! See `registry::fuzz::answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::fuzz::answers(bytes));
