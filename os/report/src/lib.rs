//! Failure reports: what a device records of itself, what of that may leave it, and how it is kept and sent.
//!
//! The device's service `report` and the Security Service use the same code. Nothing here does I/O, and nothing holds a
//! text that is not a name from a manifest: see [`privacy`].

pub mod batch;
pub mod exchange;
pub mod frame;
pub mod kept_level;
pub mod moment;
pub mod panic_text;
pub mod priority;
pub mod privacy;
pub mod quota;
pub mod record;
pub mod recorder;
pub mod samples;
pub mod signature;
pub mod spool;
pub mod urgent;
pub mod write_budget;

pub use holdfast_types::ReportLevel as Level;
