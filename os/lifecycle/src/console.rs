//! What all components together may write to the console.
//!
//! The console may be a serial line, and the kernel waits for each byte of it while init writes a record. So how
//! long init is kept is a matter of bytes, and of all components at once: [`Console`] lets through no more
//! than [`BURST_BYTES`] and [`BYTES_PER_SECOND`] from then on, counted as the line shows them.
//!
//! A quarter of both is shared out: what one component leaves no room for in the common part, another may
//! still say in its own.

/// What the console takes in the long run, in bytes a second: about a third of a line of 115200 baud.
pub const BYTES_PER_SECOND: u32 = 4 * 1024;
/// What it takes at once, in bytes.
pub const BURST_BYTES: u32 = 32 * 1024;
/// A line of 115200 baud, the slowest console of a board, in bytes a second.
pub const LINE_BYTES_PER_SECOND: u32 = 11_520;
/// Milliseconds for which init writes at most in one go: the burst, and what comes back meanwhile.
pub const LONGEST_WRITE_MS: u64 =
    BURST_BYTES as u64 * 1000 / (LINE_BYTES_PER_SECOND - BYTES_PER_SECOND) as u64;

/// One part of so many is shared out.
const SHARED_OUT: u32 = 4;
/// What the console shows of a record beside its name and its text: the time in front, a colon and a blank, and
/// the end of the line.
const RECORD_BYTES: usize = 20;

/// Bytes that come back with time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bucket {
    bytes_per_second: u64,
    most: u64,
    /// Thousandths of a byte: what comes back in a millisecond is then a whole number.
    left: u64,
    refilled_at_ms: u64,
}

impl Bucket {
    fn full(bytes_per_second: u32, burst_bytes: u32) -> Self {
        let most = thousandths(u64::from(burst_bytes));
        Self { bytes_per_second: bytes_per_second.into(), most, left: most, refilled_at_ms: 0 }
    }

    fn refill(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.refilled_at_ms);
        let earned = elapsed.saturating_mul(self.bytes_per_second);
        self.left = self.left.saturating_add(earned).min(self.most);
        self.refilled_at_ms = self.refilled_at_ms.max(now_ms);
    }
}

fn thousandths(bytes: u64) -> u64 {
    bytes.saturating_mul(1000)
}

/// The console, as components share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    common: Bucket,
    shares: Vec<Bucket>,
}

impl Console {
    /// A console that so many components share.
    #[must_use]
    pub fn new(components: usize) -> Self {
        let each = u32::try_from(components).unwrap_or(u32::MAX).max(1).saturating_mul(SHARED_OUT);
        let common = |all: u32| all.saturating_sub(all / SHARED_OUT);
        let share = Bucket::full(BYTES_PER_SECOND.div_euclid(each), BURST_BYTES.div_euclid(each));
        Self {
            common: Bucket::full(common(BYTES_PER_SECOND), common(BURST_BYTES)),
            shares: vec![share; components],
        }
    }

    /// True when the component of `index`, which has this name, may write these lines now (monotonic): all
    /// of them, or it may write none.
    pub fn take(&mut self, index: usize, name: &str, lines: &[&str], now_ms: u64) -> bool {
        let Some(share) = self.shares.get_mut(index) else {
            return false;
        };
        let shown =
            |line: &&str| line.len().saturating_add(name.len()).saturating_add(RECORD_BYTES);
        let bytes = lines.iter().map(shown).fold(0, usize::saturating_add);
        let asked = thousandths(u64::try_from(bytes).unwrap_or(u64::MAX));
        share.refill(now_ms);
        self.common.refill(now_ms);
        // The share last: it is for when nothing else is left.
        let of_common = asked.min(self.common.left);
        let of_share = asked.saturating_sub(of_common);
        if of_share > share.left {
            return false;
        }
        self.common.left = self.common.left.saturating_sub(of_common);
        share.left = share.left.saturating_sub(of_share);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that the console shows of a record.
    fn shown(line: &str) -> u64 {
        u64::try_from(format!("[    3.081234] app: {line}\r\n").len()).unwrap()
    }

    /// Writes a line as often as there is room for it.
    fn flood(console: &mut Console, index: usize, line: &str, now_ms: u64) -> u64 {
        let mut bytes = 0u64;
        while console.take(index, "app", &[line], now_ms) {
            bytes = bytes.saturating_add(shown(line));
        }
        bytes
    }

    #[test]
    fn one_that_floods_leaves_the_others_their_shares() {
        let mut console = Console::new(8);
        let line = "x".repeat(960);
        for now_ms in (0..60_000).step_by(10) {
            flood(&mut console, 0, &line, now_ms);
            if now_ms % 1_000 == 0 {
                assert!(
                    console.take(1, "hello", &["heartbeat 1 of this second"], now_ms),
                    "{now_ms}"
                );
            }
        }
    }

    #[test]
    fn a_usual_app_and_its_last_words_have_room() {
        let mut console = Console::new(4);
        let panic = "thread 'main' panicked at src/main.rs:1:1: something";
        for _ in 0..100 {
            assert!(console.take(2, "app", &[panic], 0));
        }
    }

    #[test]
    fn who_is_no_component_has_no_room() {
        assert!(!Console::new(0).take(0, "app", &["line"], 0));
        assert!(!Console::new(2).take(2, "app", &["line"], 0));
    }

    #[test]
    fn lines_go_together_or_not_at_all() {
        let mut console = Console::new(1);
        let (long, left) = ("x".repeat(900), console.clone());
        let many = [long.as_str(); 40];
        assert!(!console.take(0, "app", &many, 0));
        assert_eq!(console, left);
    }

    proptest! {
        /// However many flood, whenever, and with whatever: never more than the burst and the rate.
        #[test]
        fn no_more_than_the_burst_and_the_rate(
            components in 1usize..20,
            writes in proptest::collection::vec((any::<usize>(), 0usize..960, 0u64..3_000), 1..200),
        ) {
            let mut console = Console::new(components);
            let (mut now_ms, mut bytes) = (0u64, 0u64);
            for (index, length, pause) in writes {
                now_ms = now_ms.saturating_add(pause);
                let line = "x".repeat(length);
                let index = index.checked_rem(components).unwrap();
                bytes = bytes.saturating_add(flood(&mut console, index, &line, now_ms));
                let earned = u64::from(BYTES_PER_SECOND).saturating_mul(now_ms) / 1000;
                let most = u64::from(BURST_BYTES).saturating_add(earned);
                prop_assert!(bytes <= most, "{} bytes of {} in {} ms", bytes, most, now_ms);
            }
        }
    }
}
