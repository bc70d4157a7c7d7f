//! Fleets in which nothing happens but what happens every day, and fleets that somebody attacks: each attack is found in time.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_failure_reports::record::Outcome;
use holdfast_fleet::attack;
use holdfast_fleet::churn::fleet;
use holdfast_fleet::rates::{BEGIN, DAY_S};
use holdfast_fleet::simulation::Simulation;
use holdfast_service_domain::detection::finding::{About, Severity};
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::thresholds::Thresholds;
use std::sync::OnceLock;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3600;
/// Devices of the fleets that are attacked, so that an outbreak has nine.
const DEVICES: u32 = 9000;

/// Returns what was found, for messages.
fn findings(simulation: &Simulation) -> Vec<String> {
    let findings = simulation.service.register.findings().iter();
    findings.map(|it| format!("{:?} {:?} {}", it.key, it.evidence, it.opened_at - BEGIN)).collect()
}

/// A fleet of 9,000 after ten days in which nobody has attacked it.
fn learned() -> Simulation {
    static LEARNED: OnceLock<Simulation> = OnceLock::new();
    let learned = LEARNED.get_or_init(|| {
        let mut simulation = fleet(DEVICES, 3);
        simulation.run_until(BEGIN + 10 * DAY_S);
        assert!(findings(&simulation).is_empty(), "{:#?}", findings(&simulation));
        simulation
    });
    learned.clone()
}

/// Runs what was begun for so long, and returns after how many seconds a finding of the rule was opened. Nothing else may be found than
/// by the rules that are named.
fn found(simulation: &mut Simulation, rule: Rule, others: &[Rule], within_s: u64) -> Option<u64> {
    let since = simulation.now;
    simulation.run_until(since + within_s);
    for finding in simulation.service.register.findings() {
        let known = finding.key.rule == rule || others.contains(&finding.key.rule);
        assert!(known, "{:#?}", findings(simulation));
    }
    simulation.found_after(rule, BEGIN).map(|after| (BEGIN + after).saturating_sub(since))
}

#[test]
fn thirty_benign_days_yield_no_finding() {
    let devices = 20_000;
    let mut simulation = fleet(devices, 1);
    simulation.run_until(BEGIN + 30 * DAY_S);
    assert!(findings(&simulation).is_empty(), "{:#?}", findings(&simulation));
    let taken = simulation.service.taken;
    assert!(taken.check_ins > 28 * u64::from(devices), "{taken:?}");
    assert!(taken.records > u64::from(devices) * 10, "{taken:?}");
    assert_eq!(simulation.service.window.dropped(), 0);
}

/// The control: these days are not so quiet that no rule could find anything in them.
#[test]
fn the_same_days_yield_findings_where_thresholds_are_low() {
    let mut simulation = fleet(2_000, 1);
    for name in ["learning_days", "fallback_devices", "fallback_permille", "clock_devices"] {
        let least = Thresholds::ALL.iter().find(|it| it.name == name).unwrap().least;
        simulation.service.thresholds = simulation.service.thresholds.with(name, least).unwrap();
    }
    simulation.service.thresholds.clock_permille = 0;
    simulation.run_until(BEGIN + 30 * DAY_S);
    for rule in [Rule::NewDestination, Rule::Fallback, Rule::Clock] {
        assert!(simulation.found_after(rule, BEGIN).is_some(), "{rule:?}");
    }
}

#[test]
fn an_outbreak_is_found_within_20_minutes_of_the_ninth_device() {
    let mut simulation = learned();
    let taken = attack::worm(&mut simulation, 60);
    let ninth = taken[8];
    found(
        &mut simulation,
        Rule::Outbreak,
        &[Rule::Scan, Rule::ExploitThenCall, Rule::NewDestination],
        HOUR_S,
    );
    let outbreak = simulation.found_after(Rule::Outbreak, BEGIN).unwrap() + BEGIN;
    assert!(outbreak <= ninth + 20 * MINUTE_S, "{}", outbreak - ninth);
    let exploit = simulation.found_after(Rule::ExploitThenCall, BEGIN).unwrap() + BEGIN;
    assert!(exploit <= taken[2] + 10 * MINUTE_S, "{}", exploit - taken[2]);
    let of = |rule| {
        let all = simulation.service.register.findings().iter();
        all.filter(|finding| finding.key.rule == rule).collect::<Vec<_>>()
    };
    assert_eq!(of(Rule::Outbreak).len(), 1, "one finding, whatever ports it has");
    let outbreak = of(Rule::Outbreak)[0];
    assert_eq!(outbreak.severity, Severity::Now);
    // One or another is without a network.
    assert!((57..=60).contains(&outbreak.evidence.count), "{}", outbreak.evidence.count);
}

#[test]
fn one_scanner_is_found_and_is_no_outbreak() {
    let mut simulation = learned();
    attack::scan(&mut simulation, 77);
    let after = found(&mut simulation, Rule::Scan, &[], HOUR_S);
    assert!(after.unwrap() <= 7 * MINUTE_S, "{after:?}");
}

#[test]
fn a_release_that_falls_back_is_found_within_an_hour() {
    for is_os in [true, false] {
        let mut simulation = learned();
        attack::roll_out(&mut simulation, is_os, 300, 6 * HOUR_S);
        // An app falls back without a boot, and waits for the next check-in to say so.
        let within = if is_os { HOUR_S } else { 6 * HOUR_S };
        let after = found(&mut simulation, Rule::Fallback, &[], within);
        assert!(after.is_some(), "{is_os}");
    }
}

#[test]
fn devices_in_a_boot_loop_are_found() {
    let mut simulation = learned();
    attack::boot_loop(&mut simulation, 0..400, 3);
    assert!(found(&mut simulation, Rule::BootLoop, &[], HOUR_S).is_some());
}

#[test]
fn a_copied_device_is_found_once_both_have_checked_in() {
    let mut simulation = learned();
    attack::copy(&mut simulation, 5);
    assert!(found(&mut simulation, Rule::Clone, &[], 3 * DAY_S).is_some());
}

#[test]
fn a_tampered_device_is_found_at_its_boot() {
    let mut simulation = learned();
    attack::tamper(&mut simulation, 5);
    let after = found(&mut simulation, Rule::Measurement, &[], HOUR_S);
    assert!(after.unwrap() <= 3 * MINUTE_S, "{after:?}");
}

#[test]
fn an_unsigned_offer_is_found_within_ten_minutes() {
    let mut simulation = learned();
    attack::offer_unsigned(&mut simulation, 9);
    let after = found(&mut simulation, Rule::Rollback, &[], HOUR_S);
    assert!(after.unwrap() <= 10 * MINUTE_S, "{after:?}");
}

#[test]
fn metadata_that_has_expired_is_found_within_a_day() {
    let mut simulation = learned();
    for number in 0..400 {
        attack::update(&mut simulation, number, Outcome::RefusedExpired);
    }
    assert!(found(&mut simulation, Rule::Rollback, &[], 36 * HOUR_S).is_some());
}

#[test]
fn forged_time_is_found_within_a_day_and_a_half() {
    let mut simulation = learned();
    for number in 0..60 {
        attack::forge_time(&mut simulation, number);
    }
    assert!(found(&mut simulation, Rule::Clock, &[], 36 * HOUR_S).is_some());
}

#[test]
fn a_third_of_the_fleet_that_is_cut_off_is_found_within_three_hours() {
    let mut simulation = learned();
    attack::cut_off(&mut simulation, 3, 6 * HOUR_S);
    let after = found(&mut simulation, Rule::Silence, &[], 6 * HOUR_S);
    assert!(after.unwrap() <= 3 * HOUR_S, "{after:?}");
    let finding = simulation.service.register.findings().first().unwrap();
    assert_eq!((finding.severity, &finding.key.about), (Severity::Today, &About::Group));
}

#[test]
fn an_outage_of_the_service_is_its_own_and_every_device_comes_back() {
    let mut simulation = learned();
    let before = simulation.service.taken.check_ins;
    simulation.switch_service_off(26 * HOUR_S);
    let after = found(&mut simulation, Rule::Silence, &[], 26 * HOUR_S + 2 * HOUR_S);
    assert!(after.is_some());
    let abouts: Vec<_> =
        simulation.service.register.findings().iter().map(|it| &it.key.about).collect();
    assert_eq!(abouts, [&About::Service], "devices are not missing");
    let check_ins = simulation.service.taken.check_ins - before;
    assert!(check_ins >= u64::from(DEVICES) * 98 / 100, "{check_ins}");
    found(&mut simulation, Rule::Silence, &[], DAY_S);
}

#[test]
fn a_flood_is_found_with_the_next_check_in() {
    let mut simulation = learned();
    attack::flood(&mut simulation, 100, 500);
    assert!(found(&mut simulation, Rule::Flood, &[], 36 * HOUR_S).is_some());
}

#[test]
fn refused_system_calls_on_two_devices_are_severe_within_ten_minutes() {
    let mut simulation = learned();
    attack::violate(&mut simulation, 4);
    attack::violate(&mut simulation, 8);
    let after = found(&mut simulation, Rule::Sandbox, &[], 10 * MINUTE_S);
    assert!(after.is_some());
    let finding = simulation.service.register.findings().first().unwrap();
    assert_eq!((finding.severity, finding.evidence.count), (Severity::Now, 2));
}

#[test]
fn a_new_destination_is_found_with_the_fifth_devices_check_in() {
    let mut simulation = learned();
    for number in [3, 33, 333, 3333, 13, 113, 1113] {
        attack::call(&mut simulation, number, 4444);
    }
    assert!(found(&mut simulation, Rule::NewDestination, &[], 36 * HOUR_S).is_some());
}

#[test]
fn strangers_who_enrol_in_vain_are_found_within_a_minute() {
    let mut simulation = learned();
    attack::enrol(&mut simulation, 21);
    let after = found(&mut simulation, Rule::Enrol, &[], HOUR_S);
    assert_eq!(after, Some(MINUTE_S));
}

#[test]
fn the_same_seed_yields_the_same_run() {
    let run = || {
        let mut simulation = fleet(300, 9);
        simulation.run_until(BEGIN + 2 * DAY_S);
        attack::worm(&mut simulation, 10);
        simulation.run_until(BEGIN + 3 * DAY_S);
        (findings(&simulation), format!("{:?}", simulation.service.taken))
    };
    assert_eq!(run(), run());
}
