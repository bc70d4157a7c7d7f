//! See `holdfast_fuzz::trusted_releases`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::trusted_releases(bytes));
