//! See `holdfast_fuzz::netlink_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::netlink_message(bytes));
