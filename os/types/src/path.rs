//! Paths in a file system of the device.

/// True for `/a/b` forms: absolute, no empty, `.` or `..` part, no NUL.
#[must_use]
pub fn is_clean_absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !rest.contains('\0')
            && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
    })
}
