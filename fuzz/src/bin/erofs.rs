//! See `images::fuzz::erofs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| images::fuzz::erofs(bytes));
