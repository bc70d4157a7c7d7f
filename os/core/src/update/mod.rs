//! Updates: what `update` takes of what is released, and how it speaks with `uplink`.
//!
//! `update` cannot reach the network and `uplink` cannot reach the flash. Between them goes one request
//! at a time for one file, and its bytes ([`fetch`]).

pub mod bundle;
pub mod checked;
pub mod config;
mod decision;
mod deferral;
pub mod delta;
pub mod fetch;
mod memory;
pub mod pace;
pub mod reuse;

pub use decision::{Held, Running, next_release};
pub use deferral::{Deferral, DeferralError, MAX_DEFERRAL_MIN};
pub use memory::{Memory, Outcome, Staged};
