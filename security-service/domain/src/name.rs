//! Names that owners give: of products, groups and tokens.

use thiserror::Error;

/// Longest name in bytes.
pub const MAX_NAME_BYTES: usize = 50;

/// A text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "must be 1 to {MAX_NAME_BYTES} of a-z, 0-9, `-`, `_` and `.`, and begin with a letter or a digit"
)]
pub struct NoName;

/// Checks a name: what can stand in a path, in a log line and in a page without being escaped.
///
/// # Errors
/// See [`NoName`].
pub fn check(name: &str) -> Result<(), NoName> {
    let of_name = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_NAME_BYTES && name.bytes().all(of_name) {
        Ok(())
    } else {
        Err(NoName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless_in_paths_and_pages() {
        for good in ["a", "pump-eu", "0.1_x", &"x".repeat(50)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "A", "a b", "<b>", "é", &"x".repeat(51)] {
            assert_eq!(check(bad), Err(NoName), "{bad}");
        }
    }
}
