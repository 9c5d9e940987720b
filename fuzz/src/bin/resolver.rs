//! See `resolver::fuzz::resolver`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resolver::fuzz::resolver(bytes));
