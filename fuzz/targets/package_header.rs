//! See `holdfast_fuzz::package_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::package_header(bytes));
