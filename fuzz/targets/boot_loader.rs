//! See `holdfast_fuzz::boot_loader`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::boot_loader(bytes));
