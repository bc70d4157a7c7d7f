//! What a component writes to its standard output, cut into safe, rate-limited log lines.
//!
//! A component must not be able to forge another's lines, drive a terminal, grow init's memory or
//! drown the log: lines are cut at [`MAX_LINE_BYTES`], everything outside printable ASCII is
//! escaped, and a token bucket drops what comes too fast and says how much was dropped.

use std::error::Error;

/// Longest line in bytes of input; a longer one continues as a line of its own.
pub const MAX_LINE_BYTES: usize = 240;
/// So many times the lines of a second may come at once.
pub const BURST_SECONDS: u32 = 4;

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

/// A line of the kernel's log without the time in front, as the console shows it.
#[must_use]
pub fn without_time(line: &str) -> &str {
    let rest = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    rest.map_or(line, |(_, text)| text)
}

/// A line of the console as a program of a host has kept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLine {
    /// Seconds since the kernel started; empty where the line has no time of the kernel's.
    pub time: String,
    /// What was said.
    pub text: String,
}

impl ConsoleLine {
    /// Reads a line: without the colours of a terminal, the times that the host or the kernel has put in front,
    /// the kernel's level (`<4>`) and its caller (`[T91]`).
    ///
    /// Nothing of a component's line is left out but what stands before its name, since a word that ends in a colon
    /// is no time: no component can say what the kernel says.
    #[must_use]
    pub fn read(line: &str) -> Self {
        let plain = without_colours(line);
        let (mut rest, mut time) = (plain.trim(), "");
        loop {
            let behind = match rest.split_once(' ') {
                Some((word, behind)) if is_in_front(word) => {
                    time = kernel_time(word).unwrap_or(time);
                    behind
                }
                _ => match level(rest) {
                    Some(behind) => behind,
                    None => break,
                },
            };
            rest = behind.trim_start();
        }
        Self { time: time.to_owned(), text: rest.to_owned() }
    }
}

/// Names of days and months, as `ts` and `dmesg -T` write them.
const NAMES: [&str; 19] = [
    "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun",
    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// What stands around times.
const BRACKETS: [char; 5] = ['[', ']', '(', ')', ','];

/// True for a word that is part of a time, or of what stands around one.
fn is_in_front(word: &str) -> bool {
    let bare = word.trim_matches(BRACKETS);
    if NAMES.contains(&bare) {
        return true;
    }
    // The caller: a thread or a processor.
    let called = bare.strip_prefix(['T', 'C']).filter(|_| word.ends_with(']'));
    let bare = called.unwrap_or(bare);
    let marks = |byte: u8| byte.is_ascii_digit() || b":.,-+/TZ".contains(&byte);
    let is_separator = matches!(word, "[" | ">" | "|" | "->" | "-");
    let has_digit = bare.starts_with(|first: char| first.is_ascii_digit());
    is_separator || (has_digit && bare.bytes().all(marks) && !word.ends_with([':', '-', '.']))
}

/// The kernel's time, of a word such as `2.810097]` or `[12.345678]`.
fn kernel_time(word: &str) -> Option<&str> {
    let time = word.trim_matches(BRACKETS);
    let (whole, part) = time.split_once('.').filter(|_| word.contains(']'))?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(part)).then_some(time)
}

/// What follows the kernel's level, such as `<4>`.
fn level(text: &str) -> Option<&str> {
    let (number, behind) = text.strip_prefix('<')?.split_once('>')?;
    (number.len() <= 3 && number.parse::<u8>().is_ok()).then_some(behind)
}

/// `line` without the orders to a terminal (ECMA-48, control sequences) and other control characters.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(next) = rest.next() {
        if next == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            // Up to the final byte.
            rest.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
        } else if !next.is_control() {
            plain.push(next);
        }
    }
    plain
}

/// Collects the bytes of one component into lines. Holds at most one line.
#[derive(Debug)]
pub struct LineAssembler {
    pending: Vec<u8>,
    lines_per_second: u32,
    tokens: u32,
    refilled_at_ms: u64,
    dropped: u32,
}

impl LineAssembler {
    /// An empty one with a full bucket, for so many lines a second in the long run.
    #[must_use]
    pub fn new(lines_per_second: u32) -> Self {
        Self {
            pending: Vec::with_capacity(MAX_LINE_BYTES),
            lines_per_second,
            tokens: lines_per_second.saturating_mul(BURST_SECONDS),
            refilled_at_ms: 0,
            dropped: 0,
        }
    }

    /// Takes bytes as they came at `now_ms` (monotonic) and hands every finished line to `emit`, with what is
    /// to be said before it. `emit` writes all that it is handed, or says by `false` that there is no room:
    /// the line is then dropped and counted.
    pub fn push(&mut self, bytes: &[u8], now_ms: u64, emit: &mut dyn FnMut(&[&str]) -> bool) {
        self.refill(now_ms);
        for byte in bytes {
            if *byte == b'\n' {
                self.finish_line(emit);
                continue;
            }
            self.pending.push(*byte);
            if self.pending.len() >= MAX_LINE_BYTES {
                self.finish_line(emit);
            }
        }
    }

    /// Ends a line that has no newline yet, as when its writer is gone.
    pub fn flush(&mut self, emit: &mut dyn FnMut(&[&str]) -> bool) {
        if !self.pending.is_empty() {
            self.finish_line(emit);
        }
    }

    fn refill(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.refilled_at_ms);
        let earned = elapsed.saturating_mul(u64::from(self.lines_per_second)) / 1000;
        if earned == 0 {
            return;
        }
        self.refilled_at_ms = now_ms;
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let most = self.lines_per_second.saturating_mul(BURST_SECONDS);
        self.tokens = self.tokens.saturating_add(earned).min(most);
    }

    fn finish_line(&mut self, emit: &mut dyn FnMut(&[&str]) -> bool) {
        if self.tokens > 0 && self.is_emitted(emit) {
            self.tokens = self.tokens.saturating_sub(1);
            self.dropped = 0;
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
        self.pending.clear();
    }

    fn is_emitted(&self, emit: &mut dyn FnMut(&[&str]) -> bool) -> bool {
        let line = escape(&self.pending);
        match self.dropped {
            0 => emit(&[&line]),
            dropped => emit(&[&format!("({dropped} lines dropped: too many at once)"), &line]),
        }
    }
}

/// `bytes` as printable ASCII: anything else becomes `\xNN`, a tab one blank, a final CR nothing.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let mut line = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\t' => line.push(' '),
            b'\\' => line.push_str("\\\\"),
            0x20..=0x7e => line.push(char::from(*byte)),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                line.push_str("\\x");
                for nibble in [other >> 4, other & 0xf] {
                    line.push(HEX.get(usize::from(nibble)).copied().map_or('?', char::from));
                }
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(assembler: &mut LineAssembler, bytes: &[u8], now_ms: u64) -> Vec<String> {
        let mut out = Vec::new();
        assembler.push(bytes, now_ms, &mut |lines| {
            out.extend(lines.iter().map(|line| (*line).to_owned()));
            true
        });
        out
    }

    #[test]
    fn a_line_split_over_two_reads_is_one_line() {
        let mut assembler = LineAssembler::new(16);
        assert!(lines(&mut assembler, b"heart", 0).is_empty());
        assert_eq!(lines(&mut assembler, b"beat\nnext", 0), ["heartbeat"]);
    }

    #[test]
    fn terminal_escapes_and_forged_lines_are_made_visible() {
        let mut assembler = LineAssembler::new(16);
        assert_eq!(lines(&mut assembler, b"\x1b[2J\rinit: ok\n", 0), ["\\x1b[2J\\x0dinit: ok"]);
    }

    #[test]
    fn what_a_host_puts_in_front_of_a_line_is_left_out() {
        for front in [
            "",
            "[    3.799836] ",
            "[12:33:22] [    3.799836] ",
            "12:33:22.123 [    3.799836] ",
            "12:33:22.123 > [    3.799836] ",
            "[2026-05-02 12:33:22.123] [    3.799836] ",
            "2026-05-02T12:33:22.123456+02:00 [    3.799836] ",
            "2026-05-02T10:33:22Z [    3.799836] ",
            "May 02 12:33:22 [    3.799836] ",
            "[Sat May  2 12:33:22 2026] [    3.799836] ",
            "[12.345678 0.000123] [    3.799836] ",
            "(12:33:22) | [    3.799836] ",
            "\u{1b}[0m\u{1b}[1;33m[    3.799836]\u{1b}[0m ",
            "<4>[    3.799836] ",
            "<4>",
            "[    3.799836][   T91] ",
            "[    3.799836] [   T91] ",
            "[    3.799836][    C0] ",
        ] {
            let line = ConsoleLine::read(&format!("{front}CPU: 0 UID: 1002 PID: 75\r\r"));
            assert_eq!(line.text, "CPU: 0 UID: 1002 PID: 75", "{front}");
            let time = if front.contains("3.799836") { "3.799836" } else { "" };
            assert_eq!(line.time, time, "{front}");
        }
    }

    #[test]
    fn a_components_line_keeps_its_name_whatever_it_says() {
        for said in [
            "valve: CPU: 0 UID: 0 PID: 1",
            "may: 12:33 CPU: 0",
            "a-1: CPU: 0",
            "valve: [    3.799836] CPU: 0",
            "valve: <4>CPU: 0",
            "t1: [T91] CPU: 0",
        ] {
            for front in ["[    3.799836] ", "12:33:22 [    3.799836] ", ""] {
                assert_eq!(ConsoleLine::read(&format!("{front}{said}")).text, said);
            }
        }
        assert_eq!(ConsoleLine::read("Mode: [1] x").text, "Mode: [1] x");
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let mut assembler = LineAssembler::new(16);
        let flood = b"x\n".repeat(200);
        assert_eq!(lines(&mut assembler, &flood, 0).len(), 64);
        let later = lines(&mut assembler, b"calm\n", 1000);
        assert_eq!(later, ["(136 lines dropped: too many at once)", "calm"]);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_said_with_the_next_line() {
        let mut assembler = LineAssembler::new(16);
        assembler.push(b"one\ntwo\n", 0, &mut |_| false);
        let later = lines(&mut assembler, b"three\nfour\n", 0);
        assert_eq!(later, ["(2 lines dropped: too many at once)", "three", "four"]);
    }

    proptest! {
        #[test]
        fn output_is_printable_and_bounded(
            chunks in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..600), 0..8)
        ) {
            let mut assembler = LineAssembler::new(16);
            let mut seen = 0u32;
            for chunk in chunks {
                assembler.push(&chunk, 0, &mut |lines| {
                    seen = seen.saturating_add(1);
                    for line in lines {
                        assert!(line.bytes().all(|b| (0x20..=0x7e).contains(&b)));
                        assert!(line.len() <= MAX_LINE_BYTES * 4);
                    }
                    true
                });
                prop_assert!(assembler.pending.len() < MAX_LINE_BYTES);
            }
            prop_assert!(seen <= 64);
        }
    }
}
