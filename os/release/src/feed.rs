//! Feeds: labels in signed targets, such as `retail` and `eval`, of which a device follows one.
//!
//! The signed image says which feeds a device may follow, and the Security Service which of these it does: who has taken over the
//! service moves a device between the feeds of its own image, and to no other.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Longest name in bytes.
pub const MAX_FEED_BYTES: usize = 16;
/// Most feeds that a device may follow.
pub const MAX_FEEDS: usize = 8;
/// The feed that devices follow whose image names none, and groups that nobody has told another.
const USUAL: &str = "retail";

/// The name of a feed: 1 to 16 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Feed(String);

/// A text names no feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be 1 to {MAX_FEED_BYTES} of a-z, 0-9 and `-`, such as `retail`")]
pub struct NoFeed;

impl Feed {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// True if a release with this label, or without one, is for devices of this feed.
    #[must_use]
    pub fn takes(&self, label: Option<&Self>) -> bool {
        label.is_none_or(|label| label == self)
    }

    /// Returns the feed that a device follows: the assigned one, where the signed image allows it, and the first that the image names
    /// otherwise; the usual one where it names none.
    #[must_use]
    pub fn followed(allowed: &[Self], assigned: Option<&Self>) -> Self {
        let assigned = assigned.filter(|assigned| allowed.contains(assigned));
        assigned.or_else(|| allowed.first()).cloned().unwrap_or_default()
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self(USUAL.to_owned())
    }
}

impl FromStr for Feed {
    type Err = NoFeed;

    fn from_str(text: &str) -> Result<Self, NoFeed> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=MAX_FEED_BYTES).contains(&text.len()) && text.bytes().all(plain);
        is_name.then(|| Self(text.to_owned())).ok_or(NoFeed)
    }
}

impl TryFrom<String> for Feed {
    type Error = NoFeed;

    fn try_from(text: String) -> Result<Self, NoFeed> {
        text.parse()
    }
}

impl From<Feed> for String {
    fn from(feed: Feed) -> Self {
        feed.0
    }
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(name: &str) -> Feed {
        name.parse().unwrap()
    }

    #[test]
    fn a_device_follows_a_feed_of_its_image_and_no_other() {
        let (retail, eval) = (feed("retail"), feed("eval"));
        let both = [retail.clone(), eval.clone()];
        let followed = |allowed: &[Feed], assigned: &Feed| Feed::followed(allowed, Some(assigned));
        assert_eq!(followed(&both, &eval), eval, "the control");
        assert_eq!(followed(&both[..1], &eval), retail, "what the image does not name");
        assert_eq!(followed(&[], &eval), retail, "an image that names none");
        assert_eq!(Feed::followed(&both, None), retail, "nobody has assigned one");
        assert_eq!(Feed::followed(&both[1..], None), eval);
    }

    #[test]
    fn a_release_without_a_label_is_for_every_feed() {
        let (retail, eval) = (feed("retail"), feed("eval"));
        assert!(retail.takes(None) && eval.takes(None));
        assert!(eval.takes(Some(&eval)) && !retail.takes(Some(&eval)));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "Retail", "re tail", "retail/eval", "e\u{301}", "12345678901234567"] {
            assert_eq!(text.parse::<Feed>(), Err(NoFeed), "{text}");
        }
        assert_eq!(feed("1234567890123456").to_string().len(), MAX_FEED_BYTES);
    }
}
