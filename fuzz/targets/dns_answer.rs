//! See `holdfast_fuzz::dns_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::dns_answer(bytes));
