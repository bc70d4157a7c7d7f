//! The evaluation of all rules at one moment.

use super::finding::Detection;
use super::rule::Rule;
use super::rules::{conduct, network, release, trust};
use super::view::View;

/// Returns what a rule finds.
#[must_use]
pub fn evaluate_rule(rule: Rule, view: &View<'_>) -> Vec<Detection> {
    match rule {
        Rule::Scan => network::scan(view),
        Rule::Outbreak => network::outbreak(view),
        Rule::NewDestination => network::new_destination(view),
        Rule::Flood => network::flood(view),
        Rule::ExploitThenCall => conduct::exploit_then_call(view),
        Rule::Sandbox => conduct::sandbox(view),
        Rule::Silence => conduct::silence(view),
        Rule::Clock => conduct::clock(view),
        Rule::Fallback => release::fallback(view),
        Rule::BootLoop => release::boot_loop(view),
        Rule::Rollback => release::rollback(view),
        Rule::Measurement => trust::measurement(view),
        Rule::Clone => trust::clone(view),
        Rule::Enrol => trust::enrol(view),
    }
}

/// Returns what all rules find. The same view yields the same detections, in the same order.
#[must_use]
pub fn evaluate(view: &View<'_>) -> Vec<Detection> {
    Rule::ALL.into_iter().flat_map(|rule| evaluate_rule(rule, view)).collect()
}
