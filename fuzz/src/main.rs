//! libFuzzer with every target: `HOLDFAST_FUZZ_TARGET` names the one that is run, as a corpus is named.
//!
//! One program is linked once; a program for each target would be as many copies of std and of the crates below.
#![no_main]
#![allow(
    clippy::disallowed_methods,
    reason = "libFuzzer has the main that would return an exit code"
)]

use holdfast_fuzz::{TARGETS, Target};
use std::process;
use std::sync::LazyLock;

/// Variable of the environment with the target's name.
const NAMED_BY: &str = "HOLDFAST_FUZZ_TARGET";

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var(NAMED_BY).unwrap_or_default();
    if let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) {
        return *target;
    }
    let known: Vec<&str> = TARGETS.iter().map(|(known, _)| *known).collect();
    eprintln!("{NAMED_BY} names no target: {name:?}. Targets: {}", known.join(", "));
    process::exit(2);
});

libfuzzer_sys::fuzz_target!(init: LazyLock::force(&TARGET), |bytes: &[u8]| TARGET(bytes));
