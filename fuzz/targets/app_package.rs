//! See `holdfast_fuzz::app_package`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::app_package(bytes));
