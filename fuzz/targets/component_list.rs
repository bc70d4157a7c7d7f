//! See `holdfast_fuzz::component_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::component_list(bytes));
