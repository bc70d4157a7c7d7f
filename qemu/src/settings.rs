//! What holds for every guest of this process. A program sets it before it starts the first one.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// What is the same for all guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many times longer than its deadlines say the harness waits: guests that share a processor are
    /// slower. 0 is taken for 1.
    pub patience: u32,
    /// Directory of this process alone for the consoles of guests that have no other mirror: `NN-IMAGE.log`
    /// grows as the console does, and `NN-IMAGE.stderr.log` is there if QEMU itself complains. NN
    /// counts guests.
    pub consoles: Option<PathBuf>,
    /// QEMU reads and writes disks by [`io_uring`](crate::io_uring). By itself it hands every access to a thread and
    /// waits for it, and a boot loader's are of 512 bytes, one after the other.
    pub io_uring: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { patience: 1, consoles: None, io_uring: false }
    }
}

impl Settings {
    fn scaled(&self, within: Duration) -> Duration {
        within.saturating_mul(self.patience.max(1))
    }
}

/// Sets them, once.
///
/// # Errors
/// They are set, or were asked for already: gives back what did not take effect.
pub fn set(settings: Settings) -> Result<(), Settings> {
    SETTINGS.set(settings)
}

/// What was set, or the defaults for good.
#[must_use]
pub fn get() -> &'static Settings {
    SETTINGS.get_or_init(Settings::default)
}

/// A deadline of a test's own loop, multiplied by the patience. The waits of the harness are already.
#[must_use]
pub fn scaled(within: Duration) -> Duration {
    get().scaled(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_multiplies_a_deadline_and_never_takes_it_away() {
        let two = Duration::from_secs(2);
        let patient = |patience| Settings { patience, ..Settings::default() };
        assert_eq!(Settings::default().scaled(two), two);
        assert_eq!(patient(3).scaled(two), Duration::from_secs(6));
        assert_eq!(patient(0).scaled(two), two);
        assert_eq!(patient(2).scaled(Duration::MAX), Duration::MAX);
    }
}
