//! Releases: what publishers say of them under their signatures, and what a device believes.
//!
//! A repository is one of TUF 1.0 (`theupdateframework.github.io/specification`, 1.0.34) with the four
//! top-level roles, consistent snapshots, Ed25519 and no delegations: where it is narrower than the specification
//! stands in `docs/formats/repository.md` by the clause. A device trusts two, `os` and `oem`, each with a root and a
//! state of its own.

mod canonical;
pub mod client;
pub mod metadata;
mod target;

pub use target::{Authority, Component, Device, Release, Repository, Target};
