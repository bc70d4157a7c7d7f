//! What checks stand on: their registration, their run side by side, and changed copies of images.

pub(crate) mod arguments;
pub(crate) mod artefacts;
pub(crate) mod command;
pub(crate) mod guest;
pub(crate) mod packages;
pub(crate) mod partitions;
mod runner;
mod schedule;
pub(crate) mod scratch;
pub(crate) mod stager;
pub(crate) mod suite;
mod summary;
mod tokens;
