//! See `holdfast_fuzz::sntp_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::sntp_answer(bytes));
