//! The commands about the Security Service, against its real program on loopback: what each does, and what is refused.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod accounts;
mod deployments;
mod devices;
mod doctor;
mod imports;
mod installation;
mod offered;
mod people;
mod refusals;
mod signed_releases;
mod sites;
mod symbols;
mod transfers;
mod verbs;
