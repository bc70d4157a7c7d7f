//! The commands, as somebody types them: what they print, what they write, and how they end.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod app_commands;
mod app_packages;
mod azure_sphere;
mod bad_input;
mod device_status;
mod holdfast;
mod image_signing;
mod manifests;
mod run_exit_codes;
