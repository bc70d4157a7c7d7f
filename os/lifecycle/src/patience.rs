//! How long PID 1 may be kept, by whatever it is: all of it follows from the time of the hardware watchdog.
//!
//! init has one thread, and pets the watchdog between its steps. A step that may take long is bounded here, and
//! those that come one behind the other, without a pet in between, stay below the watchdog's time together.

use crate::console;
use holdfast_types::Millis;

/// Seconds without a sign of life after which the hardware resets the machine.
pub const WATCHDOG_S: u16 = 15;
const WATCHDOG_MS: Millis = WATCHDOG_S as Millis * 1000;

/// The watchdog is petted at least this often while init waits for something.
pub const PET_EVERY_MS: Millis = WATCHDOG_MS / 3;
/// From the copy of init to the first instruction of the program. Every step in between is the kernel's or ours.
pub const START_MS: Millis = WATCHDOG_MS * 3 / 5;

/// A look at one package may take this long.
const LOOK_MS: Millis = 20_000;
/// All looks of a boot may take this long, and then each only [`LEAST_LOOK_MS`] more: components wait for them.
const ALL_LOOKS_MS: Millis = 60_000;
/// A look may take this long, however long the others took.
const LEAST_LOOK_MS: Millis = 2_000;

/// A look at one card for an order may take this long. init does other things meanwhile.
pub const ORDER_MS: Millis = 20_000;
/// An end of the system that takes longer is left to the watchdog.
pub const END_WITHIN_MS: Millis = 20_000;

/// Looks for orders begin no sooner behind each other: whoever asks for many has none but itself wait.
pub const BETWEEN_ORDERS_MS: Millis = 2_000;

// One turn of the loop: what components printed is written, whoever is due is started, and then there is a wait.
// The watchdog is petted before each start and behind the wait.
const _: () = assert!(
    console::LONGEST_WRITE_MS + PET_EVERY_MS < WATCHDOG_MS && START_MS + PET_EVERY_MS < WATCHDOG_MS,
    "a turn may take longer than the watchdog waits"
);
const _: () = assert!(LEAST_LOOK_MS <= LOOK_MS && LOOK_MS <= ALL_LOOKS_MS);

/// Returns how long the next look at a package may take, when those before it took `spent` altogether.
#[must_use]
pub fn look_ms(spent: Millis) -> Millis {
    ALL_LOOKS_MS.saturating_sub(spent).clamp(LEAST_LOOK_MS, LOOK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_turn_ends_before_the_watchdog_does() {
        // What is written while init writes is what came back meanwhile.
        let mut written_ms = 0;
        let mut left = u64::from(console::BURST_BYTES);
        while left > 0 {
            let took = left.saturating_mul(1000) / u64::from(console::LINE_BYTES_PER_SECOND);
            written_ms = Millis::saturating_add(written_ms, took);
            left = took.saturating_mul(u64::from(console::BYTES_PER_SECOND)) / 1000;
        }
        assert!(written_ms <= console::LONGEST_WRITE_MS, "{written_ms} ms");
        const { assert!(PET_EVERY_MS * 2 < WATCHDOG_MS, "one late pet is no reset") };
    }

    proptest! {
        /// Whoever takes all the time that a look has, the components of the others start.
        #[test]
        fn looks_come_to_an_end(wants in proptest::collection::vec(0u64..1_000_000, 0..64)) {
            let mut spent: Millis = 0;
            for want in &wants {
                let may = look_ms(spent);
                prop_assert!(may >= LEAST_LOOK_MS);
                spent = spent.saturating_add(may.min(*want));
            }
            let looks = u64::try_from(wants.len()).unwrap();
            prop_assert!(spent <= ALL_LOOKS_MS.saturating_add(looks.saturating_mul(LEAST_LOOK_MS)));
        }
    }
}
