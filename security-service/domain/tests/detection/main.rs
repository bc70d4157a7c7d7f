//! The rules of threat detection: what each finds, what it does not, and that every threshold has an effect.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod bounds;
mod page;
mod rules;
mod scene;
mod thresholds;
