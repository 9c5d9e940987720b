//! See `images::fuzz::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| images::fuzz::reference(bytes));
