//! See `holdfast_fuzz::dhcp_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::dhcp_message(bytes));
