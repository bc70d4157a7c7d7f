//! A guest's serial console: collected by a thread, searched with deadlines.

use crate::HarnessError;
use regex::Regex;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of the console that an error shows.
const TAIL_LINES: usize = 30;

#[derive(Debug, Default)]
struct Collected {
    /// What was printed, without carriage returns; bytes that are no text are replaced.
    text: String,
    closed: bool,
}

/// Everything a guest has printed so far.
#[derive(Debug, Clone)]
pub struct Console {
    shared: Arc<(Mutex<Collected>, Condvar)>,
}

impl Console {
    /// Collects `source` until it ends, copying it to `mirror` where one is given.
    pub fn collect(
        mut source: impl Read + Send + 'static,
        mirror: Option<Box<dyn Write + Send>>,
    ) -> Self {
        let console = Self { shared: Arc::default() };
        let shared = Arc::clone(&console.shared);
        std::thread::spawn(move || {
            let mut mirror = mirror;
            let mut buffer = [0; 4096];
            loop {
                let length = source.read(&mut buffer).unwrap_or(0);
                let bytes = buffer.get(..length).unwrap_or_default();
                if let Some(mirror) = &mut mirror {
                    // A closed terminal must not stop the guest.
                    let _ = mirror.write_all(bytes).and_then(|()| mirror.flush());
                }
                let mut collected = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                collected.text.push_str(&String::from_utf8_lossy(bytes).replace('\r', ""));
                collected.closed = length == 0;
                shared.1.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        console
    }

    /// Everything so far, as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lock().text.clone()
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let skip = lines.len().saturating_sub(TAIL_LINES);
        lines.get(skip..).unwrap_or_default().join("\n")
    }

    /// Waits until `pattern` is found at or behind byte `from` of [`text`](Self::text), and returns the
    /// match with the position behind it.
    ///
    /// # Errors
    /// The time ran out, or the console was closed without a match.
    pub fn wait_from(
        &self,
        from: usize,
        pattern: &Regex,
        within: Duration,
    ) -> Result<(String, usize), HarnessError> {
        let deadline = Instant::now().checked_add(within);
        let waited_for = format!("`{pattern}`");
        let mut collected = self.lock();
        loop {
            if let Some(found) = collected.text.get(from..).and_then(|rest| pattern.find(rest)) {
                let end = from.saturating_add(found.end());
                return Ok((found.as_str().to_owned(), end));
            }
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if collected.closed || left.is_zero() {
                let closed = collected.closed;
                drop(collected);
                let tail = self.tail();
                return Err(if closed {
                    HarnessError::GuestDied { waited_for, tail }
                } else {
                    HarnessError::Timeout { waited_for, within, tail }
                });
            }
            let woken = self.shared.1.wait_timeout(collected, left);
            collected = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn pattern(text: &str) -> Regex {
        Regex::new(text).unwrap()
    }

    #[test]
    fn a_line_that_comes_late_is_found_and_the_next_wait_goes_on_behind_it() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let console = Console::collect(host, None);
        let writer = std::thread::spawn(move || {
            guest.write_all(b"beat 1\r\nbe").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            guest.write_all(b"at 2\r\n").unwrap();
            guest
        });
        let within = Duration::from_secs(10);
        let (first, end) = console.wait_from(0, &pattern(r"beat \d"), within).unwrap();
        let (second, _) = console.wait_from(end, &pattern(r"beat \d"), within).unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("beat 1", "beat 2"));
        drop(writer.join().unwrap());
    }

    #[test]
    fn a_wait_that_fails_shows_the_consoles_tail() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let console = Console::collect(host, None);
        guest.write_all(b"last words\n").unwrap();
        console.wait_from(0, &pattern("words"), Duration::from_secs(10)).unwrap();
        let error = console.wait_from(0, &pattern("never"), Duration::from_millis(20)).unwrap_err();
        assert!(
            matches!(&error, HarnessError::Timeout { tail, .. } if tail == "last words"),
            "{error}"
        );
        drop(guest);
        let error = console.wait_from(0, &pattern("never"), Duration::from_secs(10)).unwrap_err();
        assert!(matches!(error, HarnessError::GuestDied { .. }), "{error}");
    }
}
