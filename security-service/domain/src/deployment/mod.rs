//! Deployments: a signed release on its way through a group, in stages that a person has approved.
//!
//! All of it are functions of rows: which device is [next](order), what a check-in [shows](slot) of a device that was given its slot,
//! when a stage is [over](progress) or has to be stopped, which [state] follows, and [why] a device does not have the
//! release yet. Whoever calls has read the rows in the transaction in which he writes what is decided.

pub mod assignment;
pub mod order;
pub mod plan;
pub mod progress;
pub mod slot;
pub mod state;
pub mod why;
