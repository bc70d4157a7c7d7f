//! A TPM in software for tests: swtpm as a process of the test's own, what `identity` does with a TPM one command after the other, and
//! one sample of what a device claims.
//!
//! Whatever is not as it has to be is a panic, as in a test.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is linked into tests and measurements alone, where a panic is a failure with its place"
)]

mod commands;
mod emulator;
mod sample;

pub use emulator::Tpm;
pub use sample::{APP, BOOT, claims};
