//! See `holdfast_fuzz::network_status`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::network_status(bytes));
