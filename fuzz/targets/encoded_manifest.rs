//! See `holdfast_fuzz::encoded_manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::encoded_manifest(bytes));
