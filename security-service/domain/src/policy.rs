//! The policy: from what is known of a device to what its certificates are good for.
//!
//! A device that has failed goes back to full certificates by passing; what was found stays open until somebody closes it.
//! So healing takes no hand, and forgetting does.

use crate::device::{Finding, State};
use crate::problem::Problem;
use crate::receipt::Returned;
use holdfast_evidence::claims::Phase;

/// What the policy looks at. All of it was attested, or is the service's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The device's state.
    pub state: State,
    /// True while the owner has it quarantined.
    pub quarantined: bool,
    /// True while the owner contains a threat that it, or a version it has attested, is part of.
    pub contained: bool,
    /// True if its group takes evidence of its grade.
    pub grade_is_taken: bool,
    /// The release that was measured, where it is known.
    pub release: Option<ReleaseFacts>,
    /// The least rollback index that its group takes.
    pub least_index: u64,
    /// True if the image has a debug port.
    pub debug: bool,
    /// The phase of the device with its slots.
    pub phase: Phase,
    /// What its receipt says.
    pub receipt: Returned,
    /// True if the TPM's clock shows less than before.
    pub clock_went_back: bool,
}

/// A known release, as the policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// True once the owner has withdrawn it.
    pub withdrawn: bool,
    /// Its rollback index.
    pub index: u64,
    /// True if the claims agree with it.
    pub agrees: bool,
}

/// What a device gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Certificates with which it can speak to whoever believes the catalog.
    Full {
        /// True while the release that runs is on trial: the certificates end soon.
        on_trial: bool,
    },
    /// A certificate for the service and servers of updates alone, for these reasons.
    UpdateOnly(Vec<Problem>),
    /// Nothing.
    Refused(Problem),
}

/// Judges a device, and says what is found about it.
#[must_use]
pub fn judge(facts: &Facts) -> (Standing, Vec<Finding>) {
    let refused = |problem, findings: &[Finding]| (Standing::Refused(problem), findings.to_vec());
    match facts.state {
        State::Waiting | State::Claimed => return refused(Problem::Waiting, &[]),
        State::Retired => return refused(Problem::Released, &[]),
        State::Enrolled => {}
    }
    if !facts.grade_is_taken {
        return refused(Problem::GradeRefused, &[]);
    }
    let Some(release) = facts.release else {
        return refused(Problem::MeasurementUnknown, &[Finding::MeasurementUnknown]);
    };
    if !release.agrees {
        return refused(Problem::MeasurementUnknown, &[Finding::ClaimsDisagree]);
    }
    let below = release.index < facts.least_index;
    let forked = facts.receipt == Returned::Forked;
    let failed = facts.phase == Phase::FallingBack;
    // Quarantine and containment are the owner's own doing, and so no finding.
    let rows = [
        (facts.quarantined, Problem::Quarantined, None),
        (facts.contained, Problem::Contained, None),
        (release.withdrawn, Problem::ReleaseWithdrawn, Some(Finding::ReleaseWithdrawn)),
        (below, Problem::BelowLeastIndex, Some(Finding::BelowLeastIndex)),
        (facts.debug, Problem::DebugBuild, Some(Finding::DebugBuild)),
        (failed, Problem::SlotFailed, Some(Finding::SlotFailed)),
        (forked, Problem::ReceiptForked, Some(Finding::ReceiptForked)),
        (facts.clock_went_back, Problem::TpmClockWentBack, Some(Finding::TpmClockWentBack)),
    ];
    let holds = || rows.iter().filter(|(holds, ..)| *holds);
    let reasons: Vec<Problem> = holds().map(|(_, problem, _)| *problem).collect();
    let findings = holds().filter_map(|(_, _, finding)| *finding).collect();
    if reasons.is_empty() {
        return (Standing::Full { on_trial: facts.phase == Phase::Trying }, findings);
    }
    (Standing::UpdateOnly(reasons), findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: Facts = Facts {
        state: State::Enrolled,
        quarantined: false,
        contained: false,
        grade_is_taken: true,
        release: Some(ReleaseFacts { withdrawn: false, index: 7, agrees: true }),
        least_index: 7,
        debug: false,
        phase: Phase::Committed,
        receipt: Returned::InOrder,
        clock_went_back: false,
    };

    fn with(change: impl FnOnce(&mut Facts)) -> Facts {
        let mut facts = GOOD;
        change(&mut facts);
        facts
    }

    #[test]
    fn what_is_good_gets_full_certificates() {
        let full = |on_trial| (Standing::Full { on_trial }, vec![]);
        assert_eq!(judge(&GOOD), full(false));
        assert_eq!(judge(&with(|facts| facts.phase = Phase::Staged)), full(false));
        assert_eq!(judge(&with(|facts| facts.phase = Phase::Trying)), full(true));
    }

    /// Each row differs from what is good by one fact.
    #[test]
    fn each_fact_has_its_reason_and_its_finding() {
        let withdrawn = ReleaseFacts { withdrawn: true, index: 7, agrees: true };
        let rows: [(Facts, Problem, Option<Finding>); 8] = [
            (with(|facts| facts.quarantined = true), Problem::Quarantined, None),
            (with(|facts| facts.contained = true), Problem::Contained, None),
            (
                with(|facts| facts.release = Some(withdrawn)),
                Problem::ReleaseWithdrawn,
                Some(Finding::ReleaseWithdrawn),
            ),
            (
                with(|facts| facts.least_index = 8),
                Problem::BelowLeastIndex,
                Some(Finding::BelowLeastIndex),
            ),
            (with(|facts| facts.debug = true), Problem::DebugBuild, Some(Finding::DebugBuild)),
            (
                with(|facts| facts.phase = Phase::FallingBack),
                Problem::SlotFailed,
                Some(Finding::SlotFailed),
            ),
            (
                with(|facts| facts.receipt = Returned::Forked),
                Problem::ReceiptForked,
                Some(Finding::ReceiptForked),
            ),
            (
                with(|facts| facts.clock_went_back = true),
                Problem::TpmClockWentBack,
                Some(Finding::TpmClockWentBack),
            ),
        ];
        for (facts, problem, finding) in rows {
            let expected = (Standing::UpdateOnly(vec![problem]), finding.into_iter().collect());
            assert_eq!(judge(&facts), expected, "{problem:?}");
        }
    }

    #[test]
    fn what_is_refused_gets_nothing() {
        let disagrees = ReleaseFacts { withdrawn: false, index: 7, agrees: false };
        let rows: [(Facts, Problem, &[Finding]); 6] = [
            (with(|facts| facts.state = State::Waiting), Problem::Waiting, &[]),
            (with(|facts| facts.state = State::Claimed), Problem::Waiting, &[]),
            (with(|facts| facts.state = State::Retired), Problem::Released, &[]),
            (with(|facts| facts.grade_is_taken = false), Problem::GradeRefused, &[]),
            (
                with(|facts| facts.release = None),
                Problem::MeasurementUnknown,
                &[Finding::MeasurementUnknown],
            ),
            (
                with(|facts| facts.release = Some(disagrees)),
                Problem::MeasurementUnknown,
                &[Finding::ClaimsDisagree],
            ),
        ];
        for (facts, problem, findings) in rows {
            assert_eq!(
                judge(&facts),
                (Standing::Refused(problem), findings.to_vec()),
                "{problem:?}"
            );
        }
    }

    fn facts() -> impl Strategy<Value = Facts> {
        let states = prop_oneof![
            Just(State::Waiting),
            Just(State::Claimed),
            Just(State::Enrolled),
            Just(State::Retired)
        ];
        let phases = prop_oneof![
            Just(Phase::Committed),
            Just(Phase::Staged),
            Just(Phase::Trying),
            Just(Phase::FallingBack)
        ];
        let receipts = prop_oneof![Just(Returned::InOrder), Just(Returned::Forked)];
        let release = (any::<bool>(), 0..4u64, any::<bool>());
        let release = release.prop_map(|(withdrawn, index, agrees)| ReleaseFacts {
            withdrawn,
            index,
            agrees,
        });
        let bits = (any::<[bool; 2]>(), any::<bool>(), any::<bool>(), any::<bool>());
        (states, phases, receipts, proptest::option::of(release), bits, 0..4u64).prop_map(
            |(
                state,
                phase,
                receipt,
                release,
                ([quarantined, contained], grade, debug, clock),
                least_index,
            )| {
                Facts {
                    state,
                    quarantined,
                    contained,
                    grade_is_taken: grade,
                    release,
                    least_index,
                    debug,
                    phase,
                    receipt,
                    clock_went_back: clock,
                }
            },
        )
    }

    proptest! {
        /// Whatever else holds: nothing with a fault gets full certificates.
        #[test]
        fn full_is_for_what_has_no_fault(facts in facts()) {
            let (standing, findings) = judge(&facts);
            let release = facts.release.filter(|release| release.agrees);
            let faultless = facts.state == State::Enrolled
                && !facts.quarantined
                && !facts.contained
                && facts.grade_is_taken
                && release.is_some_and(|it| !it.withdrawn && it.index >= facts.least_index)
                && !facts.debug
                && facts.phase != Phase::FallingBack
                && facts.receipt == Returned::InOrder
                && !facts.clock_went_back;
            prop_assert_eq!(matches!(standing, Standing::Full { .. }), faultless);
            prop_assert!(!faultless || findings.is_empty());
            if let Standing::UpdateOnly(reasons) = standing {
                prop_assert!(!reasons.is_empty());
            }
        }
    }
}
