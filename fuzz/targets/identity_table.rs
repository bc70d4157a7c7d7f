//! See `holdfast_fuzz::identity_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::identity_table(bytes));
