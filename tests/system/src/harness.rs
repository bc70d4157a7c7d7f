//! What checks stand on: their registration, their run side by side, and changed copies of images.

pub(crate) mod guest;
pub(crate) mod packages;
pub(crate) mod partitions;
pub(crate) mod runner;
pub(crate) mod schedule;
pub(crate) mod scratch;
pub(crate) mod stager;
pub(crate) mod suite;
mod summary;
mod tokens;
