//! See `holdfast_fuzz::reset_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::reset_record(bytes));
