//! A fleet of simulated devices, whose clock is a number: what devices report and how the service judges it is the product's own code.
//!
//! Devices use `os/report` (shares, urgency, frames, batches) and `os/evidence::schedule`; the service uses `domain`: policy, receipts, the
//! schedule of check-ins, and threat detection. What is not simulated are TLS, signatures and databases, which have tests of their own.
//! The same seed yields the same run.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it tests and measures, and is no part of what is installed"
)]

pub mod attack;
pub mod churn;
pub mod device;
pub mod outbreak;
pub mod quiet;
pub mod random;
pub mod rates;
pub mod service;
pub mod simulation;
