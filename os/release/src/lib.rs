//! Releases: their signed metadata, which a device verifies, and the choice of what it installs.
//!
//! A repository is one of TUF 1.0 (`theupdateframework.github.io/specification`, 1.0.34) with the four
//! top-level roles, consistent snapshots, Ed25519 and no delegations: where it is narrower than the specification
//! stands in `docs/formats/repository.md` by the clause. A device trusts two, `os` and `oem`, each with a root and a
//! state of its own.
//!
//! What a device takes of it is decided here as well. `update` cannot reach the network and `uplink` cannot reach the
//! flash: between them goes one request at a time for one file, and its bytes ([`fetch`]).

pub mod assignment;
pub mod bundle;
pub mod checked;
pub mod client;
pub mod config;
pub mod delta;
pub mod factory_reset;
pub mod feed;
pub mod fetch;
pub mod metadata;
pub mod pace;
pub mod reuse;
pub mod strategy;

mod canonical;
mod decision;
mod deferral;
mod memory;
mod target;

pub use decision::{Narrowing, next_release};
pub use deferral::{Deferral, DeferralError, MAX_DEFERRAL_MIN};
pub use memory::{Memory, Outcome, Staged};
pub use target::{Authority, Device, Release, RepositoryName, Target};
