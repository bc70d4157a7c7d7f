//! What the Security Service keeps, on SQLite by default and on PostgreSQL by setting: one SQL text with `$1` parameters runs
//! on both, and so does each test.
//!
//! Every table begins with the catalog, and is read and written through a [`Scope`], which the [authoriser](scope) alone makes.
//! Writes go through [`Store::write`]: on SQLite to one writer, which commits what has come meanwhile together; on PostgreSQL
//! in a transaction each, but for check-ins, which are committed together there as well. Either way the future ends after the
//! commit, so that no answer is given before it is stored.

pub mod alert_delivery;
pub mod approval;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod blobs;
pub mod catalog;
pub mod change;
pub mod check_in;
pub mod checkpoint;
pub mod crash;
pub mod deployment;
pub mod detection;
pub mod device;
pub mod enrolment;
pub mod latency;
pub mod migration;
pub mod moment;
pub mod overview;
pub mod person;
#[cfg(feature = "postgres-harness")]
pub mod postgres_harness;
pub mod precondition;
pub mod release;
pub mod report;
pub mod repository;
pub mod retention;
pub mod retirement;
pub mod scope;
pub mod symbols;
pub mod timeline;
pub mod token;
pub mod transfer;
pub mod wanted;
pub mod webhook;

mod check_in_row;
mod columns;
mod error;
mod kind;
mod schema;
mod step;
mod store;
mod writer;

pub use error::StoreError;
pub use scope::Scope;
pub use step::{Connection, Step};
pub use store::Store;
