//! Errors as one line of a log.

use crate::escape;
use std::error::Error;

/// Longest text of [`escaped_chain`] in bytes: with a noun before it and an event behind it, it fits a line that init logs.
const MAX_ESCAPED_BYTES: usize = 160;

/// An error with all its causes, on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// An error with all its causes as printable ASCII of at most 160 bytes, for a cause whose text the network or an app
/// has chosen: it neither begins another line nor ends in the name of an [event](crate::event).
#[must_use]
pub fn escaped_chain(error: &dyn Error) -> String {
    let mut text = escape(chain(error).as_bytes()).replace("event=", "event\\x3d");
    // ASCII alone, of which every byte is a boundary.
    text.truncate(MAX_ESCAPED_BYTES);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_of_somebody_elses_choice_forges_neither_a_line_nor_an_event() {
        let forged = std::io::Error::other("503\nupdate: os: all is well event=update_committed");
        let expected = "503\\x0aupdate: os: all is well event\\x3dupdate_committed";
        assert_eq!(escaped_chain(&forged), expected);
        let long = std::io::Error::other("ä".repeat(500));
        assert_eq!(escaped_chain(&long).len(), MAX_ESCAPED_BYTES);
    }
}
