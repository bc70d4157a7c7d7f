//! Where a program in Rust has panicked, or one in C has failed an assertion, of the last bytes that it has written.
//!
//! The standard library prints a panic as `thread 'NAME' (ID) panicked at FILE:LINE:COLUMN:`, and the message from the next line on
//! (`std::panicking::default_hook`). `assert` of C prints one line, musl and the GNU C library each in its own way (their `__assert_fail`). A
//! program may have written anything else: what is read here is its own word, of itself.
//!
//! No text leaves the device. Of the message, what stands on its first line in front of `: ` is hashed, with quoted texts and words
//! with digits taken out, so that the same panic has the same hash and what was put into a message has little part in it. Whoever has the
//! source can compute the hash of each message; whoever guesses a text can see that it was this one, as with any hash.

use crate::record::Panic;
use sha2::{Digest, Sha256};

/// What the standard library writes between a thread's name and the place.
const PANICKED_AT: &[u8] = b" panicked at ";
const THREAD: &[u8] = b"thread '";
/// Most bytes of a message or of a file's name that are looked at.
const MAX_TEXT_BYTES: usize = 512;

/// Returns where the program has panicked that has written this, the last time if it did so in several threads; `None` where it
/// does not say.
#[must_use]
pub fn last_panic(written: &[u8]) -> Option<Panic> {
    let mut lines = written.split(|byte| *byte == b'\n');
    let mut found = None;
    while let Some(line) = lines.next() {
        let told = match place(line) {
            // A message may be empty, and what is cut may be all of it.
            Some(place) => Some((place, lines.clone().next().unwrap_or_default())),
            None => of_musl(line).or_else(|| of_glibc(line)),
        };
        if let Some(((file, line), message)) = told {
            let message = hash(&without_values(bounded(message)));
            let [.., high, low] = hash(bounded(file)).to_be_bytes();
            let file = u16::from_be_bytes([high, low]);
            found = Some(Panic { message, file, line });
        }
    }
    found
}

/// File and line, with the condition that was not met.
type Assertion<'a> = ((&'a [u8], u32), &'a [u8]);

/// Reads `Assertion failed: CONDITION (FILE: FUNCTION: LINE)`, as musl prints it.
fn of_musl(line: &[u8]) -> Option<Assertion<'_>> {
    let rest = line.strip_prefix(b"Assertion failed: ")?.strip_suffix(b")")?;
    let (condition, place) = split_at_last(rest, b" (")?;
    let (place, number) = split_at_last(place, b": ")?;
    let (file, _function) = split_at_last(place, b": ")?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some(((file, number), condition))
}

/// Reads `PROGRAM: FILE:LINE: FUNCTION: Assertion 'CONDITION' failed.` (with a grave accent before the condition), as the GNU C library prints it.
fn of_glibc(line: &[u8]) -> Option<Assertion<'_>> {
    let (place, condition) = split_at_first(line, b": Assertion `")?;
    let (_program, place) = split_at_first(place, b": ")?;
    let (place, _function) = split_at_first(place, b": ")?;
    Some((split_number(place)?, condition.strip_suffix(b"' failed.")?))
}

fn split_at_first<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).position(|part| part == by)?;
    Some((text.get(..at)?, text.get(at.checked_add(by.len())?..)?))
}

fn split_at_last<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).rposition(|part| part == by)?;
    Some((text.get(..at)?, text.get(at.checked_add(by.len())?..)?))
}

/// Returns file and line of the line with which a panic begins.
fn place(line: &[u8]) -> Option<(&[u8], u32)> {
    line.strip_prefix(THREAD)?;
    let at = line.windows(PANICKED_AT.len()).rposition(|part| part == PANICKED_AT)?;
    let place = line.get(at.checked_add(PANICKED_AT.len())?..)?.strip_suffix(b":")?;
    let (place, _column) = split_number(place)?;
    split_number(place)
}

/// Splits `TEXT:NUMBER`.
fn split_number(text: &[u8]) -> Option<(&[u8], u32)> {
    let colon = text.iter().rposition(|byte| *byte == b':')?;
    let number = std::str::from_utf8(text.get(colon.checked_add(1)?..)?).ok()?;
    Some((text.get(..colon)?, number.parse().ok()?))
}

fn bounded(text: &[u8]) -> &[u8] {
    text.get(..MAX_TEXT_BYTES).unwrap_or(text)
}

/// Returns the beginning of a message without what was put into it, as far as that can be told.
fn without_values(message: &[u8]) -> Vec<u8> {
    let end = message.windows(2).position(|pair| pair == b": ").unwrap_or(message.len());
    let mut quote = None;
    let unquoted = message.iter().take(end).filter(|byte| match quote {
        Some(open) => {
            if **byte == open {
                quote = None;
            }
            false
        }
        None => {
            if matches!(**byte, b'"' | b'\'') {
                quote = Some(**byte);
            }
            true
        }
    });
    let unquoted: Vec<u8> = unquoted.copied().collect();
    let words = unquoted.split(|byte| *byte == b' ');
    let words = words.filter(|word| !word.iter().any(u8::is_ascii_digit));
    words.collect::<Vec<_>>().join(&b' ')
}

/// First bytes of SHA-256.
fn hash(text: &[u8]) -> u64 {
    let digest = Sha256::digest(text);
    let (first, _) = digest.as_slice().split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn panic(place: &str, message: &str) -> Option<Panic> {
        let text = format!(
            "starting\n\nthread 'main' (17) panicked at {place}\n{message}\nnote: run with `RUST_BACKTRACE=1`\n"
        );
        last_panic(text.as_bytes())
    }

    #[test]
    fn a_panic_is_told_by_file_line_and_the_beginning_of_its_message() {
        let told = panic("src/main.rs:10:5:", "the valve is stuck").unwrap();
        assert_eq!(told.line, 10);
        assert_eq!(
            told,
            panic("src/main.rs:10:9:", "the valve is stuck").unwrap(),
            "not by column"
        );
        assert_ne!(told, panic("src/main.rs:11:5:", "the valve is stuck").unwrap());
        assert_ne!(told.file, panic("src/lib.rs:10:5:", "the valve is stuck").unwrap().file);
        assert_ne!(told.message, panic("src/main.rs:10:5:", "a valve is stuck").unwrap().message);
        // As releases before 1.91 wrote it, without the thread's number.
        let older = last_panic(b"thread 'main' panicked at src/main.rs:10:5:\nthe valve is stuck");
        assert_eq!(older, Some(told));
    }

    #[test]
    fn a_failed_assertion_in_c_is_told_by_file_line_and_condition() {
        let told = |line: &str| last_panic(format!("starting\n{line}\n").as_bytes());
        let musl = told("Assertion failed: door != NULL (src/main.c: open: 12)").unwrap();
        assert_eq!(musl.line, 12);
        // Both libraries print the same of it.
        let glibc = told("pump: src/main.c:12: open: Assertion `door != NULL' failed.").unwrap();
        assert_eq!(glibc, musl);
        let other = |line: &str| {
            let told = told(line).unwrap();
            (told.file == musl.file, told.line == musl.line, told.message == musl.message)
        };
        let lines = [
            ("Assertion failed: door != NULL (src/door.c: open: 12)", (false, true, true)),
            ("Assertion failed: door != NULL (src/main.c: shut: 13)", (true, false, true)),
            ("Assertion failed: is_shut(door) (src/main.c: open: 12)", (true, true, false)),
        ];
        for (line, expected) in lines {
            assert_eq!(other(line), expected, "{line}");
        }
        for none in [
            "Assertion failed: door != NULL",
            "Assertion failed: door != NULL (src/main.c: open: twelve)",
            "Assertion failed: door != NULL (12)",
            "pump: src/main.c:12: open: Assertion `door != NULL'",
            "src/main.c:12: Assertion `door != NULL' failed.",
            " Assertion failed: door != NULL (src/main.c: open: 12)",
        ] {
            assert_eq!(told(none), None, "{none}");
        }
    }

    #[test]
    fn what_was_put_into_a_message_has_no_part_in_it() {
        let same = |messages: &[&str]| {
            let hashes: Vec<u64> =
                messages.iter().map(|m| panic("a.rs:1:1:", m).unwrap().message).collect();
            assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{messages:?}");
        };
        same(&[
            "index out of bounds: the len is 3 but the index is 7",
            "index out of bounds: the len is 4 but the index is 9",
        ]);
        same(&[
            "called `Result::unwrap()` on an `Err` value: \"/data/anna\"",
            "called `Result::unwrap()` on an `Err` value: Os { code: 2 }",
        ]);
        same(&["no user 'anna' at 10.0.0.1", "no user 'bert' at 192.168.7.9"]);
        let reason = |message| panic("a.rs:1:1:", message).unwrap().message;
        assert_ne!(reason("no user 'anna'"), reason("no door 'anna'"), "the control");
    }

    #[test]
    fn the_last_panic_counts_and_what_is_none_says_nothing() {
        let two = b"thread 'a' panicked at a.rs:1:2:\nx\nthread 'b' panicked at b.rs:3:4:\ny\n";
        assert_eq!(last_panic(two).unwrap().line, 3);
        for none in [
            &b""[..],
            b"panicked at a.rs:1:2:",
            b"thread 'main' panicked at a.rs",
            b"thread 'main' panicked at a.rs:x:2:",
            b"thread 'main' panicked at a.rs:99999999999:2:",
            b" thread 'main' panicked at a.rs:1:2:",
        ] {
            assert_eq!(last_panic(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200), begun in any::<bool>()) {
            let begin: &[u8] = if begun { b"thread 'x' panicked at " } else { b"" };
            let _ = last_panic(&[begin, &bytes].concat());
        }
    }
}
