//! See `images::fuzz::archive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| images::fuzz::archive(bytes));
