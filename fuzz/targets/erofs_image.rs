//! See `holdfast_fuzz::erofs_image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::erofs_image(bytes));
