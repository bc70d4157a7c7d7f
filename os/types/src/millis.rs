//! Time as init counts it.

/// Milliseconds of the monotonic clock.
pub type Millis = u64;
