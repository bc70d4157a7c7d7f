//! Ranges of uids: services and apps.

/// Uids below this one are never given to a component.
pub const FIRST_SERVICE_UID: u32 = 100;
/// Uids from this one up belong to apps.
pub const FIRST_APP_UID: u32 = 1001;
/// Highest uid a component may have.
pub const LAST_UID: u32 = 59_999;
