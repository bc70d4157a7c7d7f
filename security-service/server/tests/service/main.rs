//! The whole service: real TPMs in software and copied software keys against a server on loopback, over real TLS.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod alerts;
mod approvals;
mod backup;
mod changes;
mod checkpoints;
mod console;
mod console_browser;
mod console_fleet;
mod crash;
mod deployments;
mod device;
mod disk;
mod evidence;
mod installation;
mod limits;
mod management;
mod metrics;
mod mirrors;
mod people;
mod proxy;
mod receiver;
mod releases;
mod reports;
mod served;
mod symbols;
mod tenants;
mod threats;
mod transfers;
mod webdriver;
