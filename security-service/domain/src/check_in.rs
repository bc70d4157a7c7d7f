//! The decision on a check-in: what was attested and what is known in, a verdict and what is to be written out.
//!
//! Size, JSON, the device's row and the verification come before it (`holdfast_evidence::verify`), issuing and the one write
//! after it. The write names the revision of the row that was decided on, so that whoever was overtaken decides anew.

use crate::detection::containment::Contained;
use crate::device::{Device, Finding};
use crate::grade::{Grade, Grades};
use crate::leaf::{Common, Leaf};
use crate::measurement::Release;
use crate::policy::{Facts, ReleaseFacts, Standing, judge};
use crate::problem::Problem;
use crate::receipt::Receipts;
use crate::schedule::{self, CERTIFICATE_S, EMERGENCY_NEXT_S, TRIAL_CERTIFICATE_S, TRIAL_NEXT_S};
use holdfast_evidence::attest::ClockInfo;
use holdfast_evidence::claims::{Claims, Phase};
use holdfast_evidence::messages::Profile;
use holdfast_evidence::policy::PcrDigest;
use holdfast_evidence::software::SoftwareAttested;
use holdfast_evidence::verify::{Attested, AttestedKey};
use holdfast_failure_reports::Level;

/// What was verified of a check-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// By a TPM.
    Tpm(Attested),
    /// By a key in the device's `state`.
    Software(SoftwareAttested),
}

impl Verified {
    /// Returns the claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        match self {
            Self::Tpm(attested) => &attested.claims,
            Self::Software(attested) => &attested.claims,
        }
    }

    /// Returns the digest of PCR 8 by which the release is looked for. Without a TPM it is a claim, as all there is.
    #[must_use]
    pub fn measured(&self) -> PcrDigest {
        match self {
            Self::Tpm(attested) => attested.pcr,
            Self::Software(attested) => PcrDigest::of_one_extend(&attested.claims.os.digest),
        }
    }

    fn clock(&self) -> Option<ClockInfo> {
        match self {
            Self::Tpm(attested) => Some(attested.clock),
            Self::Software(_) => None,
        }
    }

    fn keys(&self) -> &[AttestedKey] {
        match self {
            Self::Tpm(attested) => &attested.keys,
            Self::Software(attested) => &attested.keys,
        }
    }
}

/// The rules of a device's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The least rollback index that is taken.
    pub least_index: u64,
    /// The grades that are taken.
    pub grades: Grades,
    /// How much devices are to report.
    pub reports: Level,
}

/// What a check-in is decided by.
#[derive(Debug, Clone, Copy)]
pub struct CheckIn<'a> {
    /// The device's row.
    pub device: &'a Device,
    /// The rules of its group.
    pub rules: &'a Rules,
    /// What is contained in its group.
    pub contained: &'a Contained,
    /// What was verified.
    pub verified: &'a Verified,
    /// The release that [`Verified::measured`] finds, where there is one.
    pub release: Option<&'a Release>,
    /// Number of the receipt that was returned, if its HMAC is right.
    pub returned: Option<u64>,
    /// True while an emergency deployment is on its way in its group.
    pub is_emergency: bool,
    /// Seconds from one check-in of a device to the next, as the installation is set.
    pub every_s: u32,
    /// The time, in seconds since 1970.
    pub now: u64,
}

/// The verdict on a check-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Certificates are issued.
    Issue(Issue),
    /// Nothing is.
    Refused(Problem),
}

/// What a device gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// What the certificates are good for.
    pub profile: Profile,
    /// Reasons for a profile that is not full.
    pub reasons: Vec<Problem>,
    /// The certificates: of the device, and with a full profile of each app with a key.
    pub leaves: Vec<Leaf>,
    /// End of all of them, in seconds since 1970.
    pub until: u64,
    /// Seconds after which the device checks in again.
    pub next_s: u32,
    /// Number of the receipt that it gets.
    pub receipt: u64,
}

/// What is to be written of a check-in, all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckInWrite {
    /// Revision of the device's row that was decided on.
    pub revision: u64,
    /// What is known of receipts afterwards.
    pub receipts: Receipts,
    /// The TPM's time.
    pub clock: Option<ClockInfo>,
    /// Word for the verdict: `full`, `update-only`, or the problem's.
    pub verdict: &'static str,
    /// The release that was measured, where it is known.
    pub release: Option<Release>,
    /// The phase that is claimed.
    pub phase: Phase,
    /// End of the certificates, where some were issued.
    pub certificate_end: Option<u64>,
    /// When the device is to check in next, in seconds since 1970.
    pub next_at: Option<u64>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The time, in seconds since 1970.
    pub at: u64,
}

/// A verdict with what is to be written of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// What is to be written before the verdict is told.
    pub write: CheckInWrite,
}

/// Decides on a check-in.
#[must_use]
pub fn decide(check_in: &CheckIn<'_>) -> Decision {
    let CheckIn {
        device,
        rules,
        contained,
        verified,
        release,
        returned,
        is_emergency,
        every_s,
        now,
    } = *check_in;
    let claims = verified.claims();
    let clock = verified.clock();
    let grade = device.grade.unwrap_or(Grade::Software);
    let (receipt, receipts) = device.receipts.accept(returned, clock.is_some());
    let clock_went_back = match (&clock, &device.clock) {
        (Some(clock), Some(last)) => !clock.is_not_before(last),
        _ => false,
    };
    let (standing, findings) = judge(&Facts {
        state: device.state,
        quarantined: device.quarantined,
        contained: contained.is_quarantined(&device.id, claims),
        grade_is_taken: rules.grades.has(grade),
        release: release.map(|release| ReleaseFacts {
            withdrawn: release.withdrawn,
            index: release.index,
            agrees: release.pcr() == verified.measured() && release.agrees_with(&claims.os),
        }),
        least_index: rules.least_index,
        debug: claims.debug,
        phase: claims.os.phase,
        receipt,
        clock_went_back,
    });
    let mut write = CheckInWrite {
        revision: device.revision,
        receipts,
        clock: clock.or(device.clock),
        verdict: "full",
        release: release.copied(),
        phase: claims.os.phase,
        certificate_end: None,
        next_at: None,
        findings,
        at: now,
    };
    let (profile, reasons, on_trial) = match standing {
        Standing::Full { on_trial } => (Profile::Full, Vec::new(), on_trial),
        Standing::UpdateOnly(reasons) => {
            write.verdict = "update-only";
            (Profile::UpdateOnly, reasons, false)
        }
        Standing::Refused(problem) => return refused(device, write, problem),
    };
    let Some(release) = release else {
        return refused(device, write, Problem::MeasurementUnknown);
    };
    let valid_s = if on_trial { TRIAL_CERTIFICATE_S } else { CERTIFICATE_S };
    let usual_s = schedule::next_s(&device.id, now, every_s);
    let next_s = if is_emergency {
        usual_s.min(EMERGENCY_NEXT_S)
    } else if on_trial {
        usual_s.min(TRIAL_NEXT_S)
    } else {
        usual_s
    };
    let common = Common {
        catalog: device.catalog,
        device: device.id,
        grade,
        profile,
        version: release.version,
        index: release.index,
        now,
        valid_s,
    };
    let is_taken = |key: &&AttestedKey| {
        profile == Profile::Full || key.purpose == holdfast_evidence::qualifying::Purpose::Device
    };
    let keys = verified.keys().iter().filter(is_taken);
    let leaves = keys.map(|key| Leaf::new(&common, key.purpose, key.point)).collect();
    let until = now.saturating_add(valid_s);
    write.certificate_end = Some(until);
    write.next_at = Some(now.saturating_add(u64::from(next_s)));
    let receipt = receipts.newest;
    let issue = Issue { profile, reasons, leaves, until, next_s, receipt };
    Decision { verdict: Verdict::Issue(issue), write }
}

/// A refusal has no receipt with it, so what is known of them stays.
fn refused(device: &Device, mut write: CheckInWrite, problem: Problem) -> Decision {
    write.verdict = problem.slug();
    write.receipts = device.receipts;
    Decision { verdict: Verdict::Refused(problem), write }
}
