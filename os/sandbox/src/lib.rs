//! From what a component is granted to the sandbox it runs in, as plain data.
//!
//! Manifests, packages' headers, plans, the component list and the messages between init and the services: what PID 1
//! has to know of a component, and no more. Nothing here parses a document that somebody else wrote (`os/manifest`
//! does), reads a file or a clock, or asks the environment.

pub mod app_manifest;
pub mod clock;
pub mod component;
pub mod held;
pub mod network;
pub mod notify;
pub mod package;
pub mod peripheral;
pub mod policy;
pub mod reset_order;
pub mod verity;
pub mod wire;
