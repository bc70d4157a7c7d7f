//! Configuration of `update` and `uplink`: one file for each in the verified root.

use crate::feed::Feed;
use crate::{Device, RepositoryName};
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};

/// Longest root of a repository in an image, in bytes.
pub const MAX_ROOT_BYTES: usize = 32 * 1024;
/// Name of `update`'s configuration in its directory.
pub const UPDATE_FILE: &str = "update.config";
/// Name of `uplink`'s configuration in its directory.
pub const UPLINK_FILE: &str = "uplink.config";
/// Longest encoding of either configuration, in bytes.
pub const MAX_ENCODED_BYTES: usize = 64 * 1024;
const MINUTES_OF_A_DAY: u16 = 24 * 60;

/// Returns the name of the file with a repository's root in `update`'s directory.
#[must_use]
pub fn root_file(repository: RepositoryName) -> String {
    format!("{repository}.root.json")
}

/// Configuration of `update`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// The device that a release must be for.
    pub device: Device,
    /// The repositories that the device trusts.
    pub repositories: Vec<RepositoryName>,
    /// Interval between checks for releases, in seconds.
    pub check_every_s: u32,
    /// Interval after a failed check, in seconds; it doubles with each further failure.
    pub retry_after_s: u32,
    /// Maintenance window in which the device may reboot for an update; `None` for any time.
    pub window: Option<Window>,
    /// Most bytes that a server may send for one release; `None` for no bound.
    pub most_bytes_a_release: Option<u64>,
    /// The feeds that the device may follow; the first where no service says which.
    pub feeds: Vec<Feed>,
}

/// Configuration of `uplink`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkConfig {
    /// Server of each repository: an `https:` URL without a slash at its end.
    pub servers: Vec<(RepositoryName, String)>,
    /// Certificates of the authorities that may vouch for the servers, in DER. No others do.
    pub authorities: Vec<Vec<u8>>,
    /// Most bytes that `uplink` fetches in a day.
    pub bytes_a_day: u64,
}

impl UpdateConfig {
    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

impl UplinkConfig {
    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

/// A maintenance window: a period of each day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First minute of the window, counted from midnight.
    from: u16,
    /// First minute behind the window, counted from midnight; below `from` where the window lasts over midnight.
    to: u16,
}

impl Window {
    /// Parses text such as `02:00-04:30`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minutes = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            let fits = digits(text.get(..2)?) && digits(text.get(3..)?) && hour < 24 && minute < 60;
            fits.then(|| hour.saturating_mul(60).saturating_add(minute))
        };
        let (from, to) = text.split_once('-')?;
        let window = Self { from: minutes(from)?, to: minutes(to)? };
        (window.from != window.to).then_some(window)
    }

    /// Returns the seconds from `now`, in seconds since 1970, until the window opens; 0 while it is open.
    #[must_use]
    pub fn opens_in(self, now: u64) -> u64 {
        let day = u64::from(MINUTES_OF_A_DAY).saturating_mul(60);
        let second = now.checked_rem(day).unwrap_or(0);
        let (from, to) = (u64::from(self.from).saturating_mul(60), u64::from(self.to) * 60);
        let open =
            if from < to { (from..to).contains(&second) } else { second >= from || second < to };
        match (open, from.checked_sub(second)) {
            (true, _) => 0,
            (false, Some(later)) => later,
            (false, None) => from.saturating_add(day).saturating_sub(second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_is_open_from_its_first_to_before_its_last_minute() {
        let window = Window::parse("02:00-04:30").unwrap();
        let at =
            |hour: u64, minute: u64| window.opens_in(20_000 * 86_400 + hour * 3600 + minute * 60);
        assert_eq!(at(2, 0), 0);
        assert_eq!(at(4, 29), 0);
        assert_eq!(at(4, 30), 21 * 3600 + 1800);
        assert_eq!(at(1, 0), 3600);
        let night = Window::parse("23:30-00:15").unwrap();
        assert_eq!(night.opens_in(0), 0);
        assert_eq!(night.opens_in(15 * 60), 23 * 3600 + 15 * 60);
        assert_eq!(night.opens_in(86_399), 0);
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in
            ["", "02:00", "2:00-4:00", "24:00-01:00", "02:60-03:00", "02:00-02:00", "+2:00-03:00"]
        {
            assert_eq!(Window::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whoever_waits_as_long_as_it_says_finds_it_open(
            from in 0u16..1440, to in 0u16..1440, now in any::<u64>()
        ) {
            prop_assume!(from != to);
            let window = Window { from, to };
            let wait = window.opens_in(now);
            prop_assert!(wait < 86_400);
            if let Some(then) = now.checked_add(wait) {
                prop_assert_eq!(window.opens_in(then), 0);
            }
        }
    }
}
