//! Ids, versions, names and encodings that every part of Holdfast shares.
//!
//! Nothing here does I/O, and no crate of the workspace lies below it: PID 1, the services, the host tool and the
//! security service can all link it without a parser of anything.

pub mod component_name;
pub mod encoding;
pub mod event;
pub mod hex;
pub mod uid;

mod catalog_id;
mod clock_source;
mod component_id;
mod date;
mod error_chain;
mod escape;
mod grade;
mod key_id;
mod millis;
mod path;
mod report_level;
mod slot;
mod tpm_state;
mod update_wait;
mod version;

pub use catalog_id::CatalogId;
pub use clock_source::ClockSource;
pub use component_id::{ComponentId, is_guid};
pub use date::date;
pub use error_chain::{chain, escaped_chain};
pub use escape::escape;
pub use grade::{Grade, NoGrade};
pub use key_id::KeyId;
pub use millis::Millis;
pub use path::is_clean_absolute;
pub use report_level::{NoReportLevel, ReportLevel};
pub use slot::{Phase, Slot};
pub use tpm_state::TpmState;
pub use update_wait::UpdateWait;
pub use version::{NoVersion, Version};
