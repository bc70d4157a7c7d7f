//! See `holdfast_fuzz::release_delta`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::release_delta(bytes));
