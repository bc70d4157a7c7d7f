//! What a component writes to its standard output, cut into safe, rate-limited log lines.
//!
//! A component must not be able to forge another's lines, drive a terminal, grow init's memory or
//! drown the log: lines are cut at [`MAX_LINE_BYTES`], everything outside printable ASCII is
//! escaped, and a token bucket drops what comes too fast and says how much was dropped.

use holdfast_types::escape;

/// Longest line in bytes of input; a longer one continues as a line of its own, from a blank on where one is near.
pub const MAX_LINE_BYTES: usize = 240;
/// A line is cut at a blank that so many bytes come after at most.
const MAX_WORD_BYTES: usize = 64;
/// So many times the lines of a second may come at once.
pub const BURST_SECONDS: u32 = 4;

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
                self.cut(emit);
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

    fn cut(&mut self, emit: &mut dyn FnMut(&[&str]) -> bool) {
        const LEAST: usize = MAX_LINE_BYTES - MAX_WORD_BYTES;
        // A line of a service ends in its event, which nothing finds where it is cut in two.
        let blank = self.pending.iter().rposition(|byte| *byte == b' ');
        let rest = blank.filter(|at| *at >= LEAST).map(|at| self.pending.split_off(at));
        self.finish_line(emit);
        self.pending.extend(rest.iter().flatten().skip(1));
    }

    fn finish_line(&mut self, emit: &mut dyn FnMut(&[&str]) -> bool) {
        if self.tokens > 0 && self.try_to_emit(emit) {
            self.tokens = self.tokens.saturating_sub(1);
            self.dropped = 0;
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
        self.pending.clear();
    }

    fn try_to_emit(&self, emit: &mut dyn FnMut(&[&str]) -> bool) -> bool {
        let line = escape(&self.pending);
        match self.dropped {
            0 => emit(&[&line]),
            dropped => emit(&[&format!("({dropped} lines dropped: too many at once)"), &line]),
        }
    }
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
    fn a_long_line_is_cut_between_words_where_one_ends_nearby() {
        let text = "x".repeat(MAX_LINE_BYTES - 10);
        let line = format!("{text} event=clock_floor_persist_failed\n");
        let mut assembler = LineAssembler::new(16);
        let cut = lines(&mut assembler, line.as_bytes(), 0);
        assert_eq!(cut, [text.as_str(), "event=clock_floor_persist_failed"]);
        let word = "x".repeat(MAX_LINE_BYTES + 1) + "\n";
        let cut = lines(&mut assembler, word.as_bytes(), 0);
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES, 1]);
    }

    #[test]
    fn terminal_escapes_and_forged_lines_are_made_visible() {
        let mut assembler = LineAssembler::new(16);
        assert_eq!(lines(&mut assembler, b"\x1b[2J\rinit: ok\n", 0), ["\\x1b[2J\\x0dinit: ok"]);
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
