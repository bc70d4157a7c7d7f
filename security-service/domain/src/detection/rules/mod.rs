//! The rules, by what they look at.

pub(crate) mod conduct;
pub(crate) mod network;
pub(crate) mod release;
pub(crate) mod trust;
