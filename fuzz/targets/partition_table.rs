//! See `holdfast_fuzz::partition_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::partition_table(bytes));
