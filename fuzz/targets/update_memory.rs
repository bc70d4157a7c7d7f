//! See `holdfast_fuzz::update_memory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::update_memory(bytes));
