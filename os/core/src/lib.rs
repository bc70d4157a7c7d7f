//! Decisions of Holdfast as pure functions and state machines.
//!
//! Nothing in this crate reads a file, a clock, the environment or a socket: callers pass in what
//! they saw and carry out what is decided here. That is why every rule can be tested on any host
//! and used by the device, the host tool and the service alike.

pub mod app_manifest;
pub mod boot_loader;
pub mod clock;
pub mod component;
pub mod console;
pub mod crash;
pub mod elf;
pub mod encoding;
pub mod group_events;
pub mod identity;
pub mod log_line;
pub mod network;
pub mod notify;
pub mod package;
pub mod partition_table;
pub mod patience;
pub mod peripheral;
pub mod policy;
pub mod release;
pub mod reset;
pub mod slots;
pub mod superblock;
pub mod supervision;
pub mod update;
pub mod verity;
pub mod wire;
pub mod writes;
