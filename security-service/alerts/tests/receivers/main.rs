//! Sinks against receivers on loopback: good ones, hostile ones, and names that lead where they must not. Each attack has a control.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod https;
mod mail;
mod otlp;
mod smtp;
mod webhook;

use holdfast_service_alerts::message::Message;
use serde_json::json;

/// An alert about a finding, whose component has this name.
fn message(product: &str, about: &str) -> Message {
    let body = json!({
        "catalog": "25025d2c-66da-4448-bae1-ac26fcdd3627", "product": product, "group": "production",
        "at": 1_800_000_100, "kind": "finding",
        "findings": [{
            "number": 7, "rule": "outbreak", "severity": 1, "about": about, "devices": 9,
            "first": 1_800_000_000, "last": 1_800_000_060, "sees": "Devices try many addresses.",
            "remedy": "Contain.",
        }],
    });
    Message::read(&body.to_string()).unwrap()
}
