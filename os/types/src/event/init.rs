//! Events of init.

events! {
    /// The floor of the clock could not be written to `state`.
    CLOCK_FLOOR_PERSIST_FAILED = "clock_floor_persist_failed";
}
