//! See `holdfast_fuzz::admission_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::admission_answer(bytes));
