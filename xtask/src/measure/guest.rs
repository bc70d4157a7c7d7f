//! What all measurements take from a guest: its patience, and the numbers in what it prints.

use anyhow::{Context, Result};
use regex::Regex;
use std::time::Duration;

/// The kernel's boot takes seconds under emulation, a loaded host many times that.
pub(super) const BOOT: Duration = Duration::from_secs(120);

/// Seconds in milliseconds, to the microsecond.
pub(super) fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

/// The number that `pattern` captures in `text`.
pub(super) fn captured(text: &str, pattern: &str) -> Result<String> {
    let regex = Regex::new(pattern).context("a pattern of this program is broken")?;
    let found = regex.captures(text).and_then(|captures| captures.get(1));
    Ok(found.with_context(|| format!("`{text}` has no `{pattern}`"))?.as_str().to_owned())
}

/// The same, as a number with a fraction.
pub(super) fn number(text: &str, pattern: &str) -> Result<f64> {
    captured(text, pattern)?.parse().with_context(|| format!("`{text}` has no number"))
}

/// The same, as a whole number.
pub(super) fn whole(text: &str, pattern: &str) -> Result<u64> {
    captured(text, pattern)?.parse().with_context(|| format!("`{text}` has no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_and_their_absence_is_told_with_the_text() {
        assert_eq!(whole("available=512 user=3", r"user=(\d+)").unwrap(), 3);
        assert!((number("main at 1.5s", r"at ([0-9.]+)s").unwrap() - 1.5).abs() < 1e-9);
        let error = whole("nothing", r"user=(\d+)").unwrap_err().to_string();
        assert_eq!(error, r"`nothing` has no `user=(\d+)`");
        assert!((milliseconds(0.123_456_78) - 123.457).abs() < 1e-9);
    }
}
