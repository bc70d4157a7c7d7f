//! See `holdfast_fuzz::uid_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::uid_table(bytes));
