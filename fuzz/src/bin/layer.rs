//! See `images::fuzz::layer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| images::fuzz::layer(bytes));
