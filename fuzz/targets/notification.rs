//! See `holdfast_fuzz::notification`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::notification(bytes));
