//! `holdfast-fleet [DEVICES [DAYS]]`: what a fleet costs the rules of threat detection. Prints numbers as JSON; 1,000,000 devices and
//! one day unless told otherwise.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "it measures"
)]

use holdfast_fleet::churn::fleet;
use holdfast_fleet::rates::{BEGIN, DAY_S};
use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let mut next = |usual| match arguments.next() {
        None => usual,
        Some(Ok(number)) => number,
        Some(Err(error)) => panic!("holdfast-fleet [DEVICES [DAYS]]: {error}"),
    };
    let (devices, days) = (next(1_000_000), next(1));
    let began = Instant::now();
    let mut simulation = fleet(devices, 1);
    simulation.run_until(BEGIN + u64::from(days) * DAY_S);
    let taken = simulation.service.taken;
    println!(
        "{{\"devices\": {devices}, \"days\": {days}, \"seconds\": {:.1}, \"check_ins\": {}, \"records\": {}, \"bytes\": {}, \
         \"findings\": {}, \"most_entries\": {}, \"dropped\": {}}}",
        began.elapsed().as_secs_f64(),
        taken.check_ins,
        taken.records,
        taken.bytes,
        simulation.service.register.findings().len(),
        taken.most_entries,
        simulation.service.window.dropped(),
    );
}
