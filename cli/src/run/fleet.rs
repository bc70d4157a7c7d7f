//! Several guests of one image at once: devices of one fleet, each with a disk and a TPM of its own, and one console for all.

use super::{Attesting, RunArgs};
use anyhow::Result;
use holdfast_qemu::HarnessError;
use holdfast_qemu::machine::{Guest, Machine};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The line by which a device says that it has come as far as its identity: the next one is started then.
const NAMED: &str = "identity: device [0-9a-f]{64}, ";
/// Time that a device has for that before the next one is started all the same.
const NAMED_WITHIN: Duration = Duration::from_secs(60);
/// Longest line that is held until it is whole.
const MOST_LINE_BYTES: usize = 4096;

/// What a guest prints, whole lines with its number in front, on a console that it shares with others.
struct Numbered<W> {
    number: usize,
    line: Vec<u8>,
    shared: Arc<Mutex<W>>,
}

impl<W: Write> Numbered<W> {
    fn write_line(&mut self) -> io::Result<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        write!(shared, "{}| ", self.number)?;
        shared.write_all(&self.line)?;
        shared.write_all(b"\n")?;
        self.line.clear();
        shared.flush()
    }
}

impl<W: Write> Write for Numbered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' => self.write_line()?,
                b'\r' => {}
                byte => {
                    self.line.push(*byte);
                    if self.line.len() >= MOST_LINE_BYTES {
                        self.write_line()?;
                    }
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the machines one after the other, and shows their consoles until all of them have ended or the time is over.
pub(super) fn start(
    args: &RunArgs,
    machines: &[Machine],
    attesting: Option<&Attesting>,
) -> Result<()> {
    let deadline =
        args.timeout.and_then(|secs| Instant::now().checked_add(Duration::from_secs(secs)));
    let left = || match deadline {
        Some(deadline) => deadline.saturating_duration_since(Instant::now()),
        None => Duration::from_secs(u64::from(u32::MAX)),
    };
    let shared = Arc::new(Mutex::new(io::stdout()));
    let mut guests: Vec<Guest> = Vec::new();
    let mut watchers = Vec::new();
    for (number, machine) in (1..).zip(machines) {
        let shared = Arc::clone(&shared);
        let mut guest =
            machine.start(Some(Box::new(Numbered { number, line: Vec::new(), shared })))?;
        let console = guest.console.clone();
        watchers
            .extend(attesting.map(|attesting| attesting.watch(Box::new(move || console.text()))));
        // Guests that all boot at once take so long that their watchdogs take them for hung.
        match guest.wait(NAMED, NAMED_WITHIN.min(left())) {
            Err(HarnessError::Timeout { .. }) | Ok(_) => guests.push(guest),
            Err(error) => return Err(error.into()),
        }
    }
    eprintln!("{} devices run", guests.len());
    for mut guest in guests {
        let status = guest.wait_end(left())?;
        if !status.success() {
            let waited_for = "its end".to_owned();
            return Err(HarnessError::GuestDied { waited_for, tail: guest.console.tail() }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_guests_are_whole_and_have_the_guests_number() {
        let shared = Arc::new(Mutex::new(Vec::new()));
        let guest = |number| Numbered { number, line: Vec::new(), shared: Arc::clone(&shared) };
        let (mut one, mut two) = (guest(1), guest(2));
        one.write_all(b"init: im").unwrap();
        two.write_all(b"init: probe is ready\r\n").unwrap();
        one.write_all(b"age hello\r\nrest").unwrap();
        let text = String::from_utf8(shared.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "2| init: probe is ready\n1| init: image hello\n");
    }

    #[test]
    fn a_line_without_an_end_is_not_held_for_ever() {
        let shared = Arc::new(Mutex::new(Vec::new()));
        let mut guest = Numbered { number: 1, line: Vec::new(), shared: Arc::clone(&shared) };
        guest.write_all(&vec![b'x'; 2 * MOST_LINE_BYTES]).unwrap();
        assert!(guest.line.is_empty());
        assert_eq!(shared.lock().unwrap().len(), 2 * (MOST_LINE_BYTES + "1| \n".len()));
    }
}
