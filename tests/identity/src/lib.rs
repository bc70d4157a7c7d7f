//! An identity service with keys in memory, and a catalog that issues for it: what apps talk to, without a device.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it is of tests, and a panic is a failed test"
)]

mod fleet;
mod service;

pub use fleet::{CAMERA, CATALOG, Fleet, Held, INDEX, PUMP, Wanted, now};
pub use service::Service;
