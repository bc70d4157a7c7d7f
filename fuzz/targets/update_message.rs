//! See `holdfast_fuzz::update_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::update_message(bytes));
