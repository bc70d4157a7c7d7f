//! A fault of a document, with its place.

use thiserror::Error;

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}{}{reason}", if path.is_empty() { "" } else { ": " })]
pub struct Fault {
    /// Path in the document, such as `Capabilities.Gpio[1]`; empty for the whole of it.
    pub path: String,
    /// The rule that is broken, and what would be right.
    pub reason: String,
}
