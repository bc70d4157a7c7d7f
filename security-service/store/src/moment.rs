//! Moments of a request, told to whoever is passed in as an observer: a test that stops or kills the service at one of them, so
//! that what is stored and what was answered can be compared for each. By default nobody listens.

use std::fmt;
use std::sync::Arc;

/// A moment of a request that writes, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// The body was read, and nothing else has happened.
    Admitted,
    /// The evidence was verified by the device's key.
    Verified,
    /// The decision was made.
    Decided,
    /// Certificates were issued, and are in memory alone.
    Issued,
    /// A transaction has begun.
    Begun,
    /// All of the transaction was written, and it is not committed.
    Written,
    /// The transaction was committed, and whoever waits for it has not been told.
    Committed,
    /// The answer is about to leave.
    Answering,
}

impl Moment {
    /// Every moment of a check-in, in order.
    pub const ALL: [Self; 8] = [
        Self::Admitted,
        Self::Verified,
        Self::Decided,
        Self::Issued,
        Self::Begun,
        Self::Written,
        Self::Committed,
        Self::Answering,
    ];

    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Verified => "verified",
            Self::Decided => "decided",
            Self::Issued => "issued",
            Self::Begun => "begun",
            Self::Written => "written",
            Self::Committed => "committed",
            Self::Answering => "answering",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|moment| moment.word() == word)
    }
}

/// Is told of moments. What it does meanwhile holds the request up.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Moment) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Observer {
    /// Makes one.
    #[must_use]
    pub fn new(observe: impl Fn(Moment) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// Returns one that does nothing.
    #[must_use]
    pub fn nobody() -> Self {
        Self::new(|_| {})
    }

    /// Tells it that a moment was reached.
    pub fn reached(&self, moment: Moment) {
        (self.0)(moment);
    }
}
