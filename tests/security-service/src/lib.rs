//! Devices as the Security Service sees them, for its tests and for measurements: a small HTTP client over TLS, a device with a TPM in
//! software, and one with a key of its own, which can be copied; and the program of the service as a process.
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

mod client;
mod process;
mod reporter;
mod software_device;
mod tpm_device;

pub use client::{Answer, Client, Target};
pub use process::{Installed, ServiceProcess};
pub use reporter::{Shown, batch, report};
pub use software_device::{SoftwareDevice, point, software_key};
pub use tpm_device::TpmDevice;

use holdfast_evidence::messages::CheckInAnswer;
use serde::Serialize;

/// Posts a body as JSON.
pub fn post<T: Serialize>(client: &mut Client, path: &str, body: &T) -> Answer {
    client.ask("POST", path, "", &serde_json::to_vec(body).unwrap())
}

/// Reads the answer to a check-in, which must be one.
pub fn checked_in(answer: &Answer) -> CheckInAnswer {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}
