//! Crash groups: which failures are the same one, and how a group of them stands.

mod key;
mod standing;

pub use key::{Address, Algorithm, Failure, GroupId, Key, MAX_FUNCTION_BYTES, Subject};
pub use standing::{
    Exposure, GroupState, LONGEST_NEW_S, SeenVersion, Standing, Taken, is_gone,
    per_1000_device_days, standing, take,
};
