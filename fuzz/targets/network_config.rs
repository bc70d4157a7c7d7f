//! See `holdfast_fuzz::network_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::network_config(bytes));
