//! The time of a record, by the clocks that a device has.

/// A moment, as records have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since the boot.
    pub uptime_s: u64,
    /// Seconds since 1970; `None` where nobody has told the device the time.
    pub at: Option<u64>,
}
