//! Places that C has for results.

/// Writes a value to where C wants it, if it does.
///
/// # Safety
/// `place` is NULL or has room for a `T`.
pub(crate) unsafe fn write_to<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller says so. What was there has nothing to drop: it is C's.
        unsafe { place.write(value) };
    }
}
