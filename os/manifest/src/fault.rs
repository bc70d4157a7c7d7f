//! What is wrong with a document, and where.

use thiserror::Error;

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}{}{reason}", if path.is_empty() { "" } else { ": " })]
pub struct Fault {
    /// Where in the document, such as `Capabilities.Gpio[1]`; empty for the whole of it.
    pub path: String,
    /// What is wrong and what would be right.
    pub reason: String,
}
