//! See `holdfast_fuzz::dhcp6_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::dhcp6_message(bytes));
