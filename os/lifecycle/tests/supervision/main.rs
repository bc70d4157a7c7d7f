//! The reducer of supervision: transcripts of whole runs, properties, and runs that were recorded.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod device;
mod properties;
mod replay;
mod transcripts;
