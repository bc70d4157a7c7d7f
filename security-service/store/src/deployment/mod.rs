//! Deployments: their rows, slots that are given in the transactions of check-ins, and what people and the service do to them.
//!
//! Locks are taken in one order, so that no two transactions wait for each other: the device, the group, the deployment, its slots,
//! and the catalog, for the audit log.

pub mod change;
pub mod check_in;
pub mod list;
pub mod listed;
pub mod progress;
pub mod row;
mod threat;
