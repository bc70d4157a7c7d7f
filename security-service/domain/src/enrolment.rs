//! Decisions on enrolment: who may enrol, and with which grade.
//!
//! A key never changes afterwards. The endorsement key cannot, since the id is its hash. That another attestation key is not
//! taken is decided when the TPM has shown that it holds both: before, anybody could say so of a device.

use crate::device::{Device, Kind, State};
use crate::grade::{Grade, Grades};
use crate::problem::Problem;
use crate::schedule::WAITING_NEXT_S;

/// Seconds within which a credential must have been opened.
pub const WITHIN_S: u32 = 600;
/// Most devices of a catalog that wait for somebody to claim them: anybody can make endorsement keys.
pub const MAX_WAITING: u64 = 10_000;

/// What a request to enrol is decided by. Its keys have been read by their templates.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// What the id is made of.
    pub kind: Kind,
    /// The grade that a maker's certificate vouches for, where there is one of a listed maker.
    pub endorsed: Option<Grade>,
}

/// What is done about a request to enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The device becomes known, or stays so, and asks again after some seconds.
    Wait {
        /// Seconds after which it asks again.
        next_s: u32,
    },
    /// It goes on with this grade: a TPM is sent a credential, and a software key is enrolled.
    Go(Grade),
    /// It is refused.
    Refused(Problem),
}

/// Decides on a request to enrol.
///
/// `grades` are those that the catalog or the device's group takes, and `waiting` counts devices that wait in the catalog.
#[must_use]
pub fn decide(
    request: &Request,
    device: Option<&Device>,
    grades: Grades,
    waiting: u64,
) -> Decision {
    let Some(device) = device else {
        return if waiting < MAX_WAITING {
            Decision::Wait { next_s: WAITING_NEXT_S }
        } else {
            Decision::Refused(Problem::Busy)
        };
    };
    if device.kind != request.kind {
        return Decision::Refused(Problem::KeyChanged);
    }
    match device.state {
        State::Waiting => return Decision::Wait { next_s: WAITING_NEXT_S },
        State::Retired => return Decision::Refused(Problem::Released),
        State::Claimed | State::Enrolled => {}
    }
    let grade = grade(request.kind, device.claimed_grade, request.endorsed);
    match grade {
        Some(grade) if grades.has(grade) => Decision::Go(grade),
        Some(_) | None => Decision::Refused(Problem::GradeRefused),
    }
}

/// Returns the grade by who vouches for the key. Where both a maker's certificate and the claim list do, the lesser holds: a
/// list can say that a TPM is emulated, and not that it is better than its maker says. Nobody vouches for no grade.
#[must_use]
pub fn grade(kind: Kind, claimed: Option<Grade>, endorsed: Option<Grade>) -> Option<Grade> {
    match kind {
        Kind::Software => Some(Grade::Software),
        Kind::Tpm => {
            let of_tpm = [claimed, endorsed].into_iter().flatten();
            of_tpm.filter(|grade| *grade != Grade::Software).min()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::Receipts;
    use holdfast_evidence::messages::{CatalogId, DeviceId};

    fn device(state: State) -> Device {
        Device {
            catalog: CatalogId([1; 16]),
            id: DeviceId([2; 32]),
            kind: Kind::Tpm,
            state,
            claimed_grade: Some(Grade::Hardware),
            grade: None,
            key: None,
            quarantined: false,
            receipts: Receipts::default(),
            clock: None,
            revision: 0,
        }
    }

    const REQUEST: Request = Request { kind: Kind::Tpm, endorsed: None };
    const GRADES: Grades = Grades::OF_NEW_CATALOGS;

    #[test]
    fn a_device_waits_until_it_is_claimed() {
        let wait = Decision::Wait { next_s: WAITING_NEXT_S };
        assert_eq!(decide(&REQUEST, None, GRADES, 0), wait);
        assert_eq!(decide(&REQUEST, None, GRADES, MAX_WAITING - 1), wait);
        let full = decide(&REQUEST, None, GRADES, MAX_WAITING);
        assert_eq!(full, Decision::Refused(Problem::Busy));
        let of = |state| decide(&REQUEST, Some(&device(state)), GRADES, MAX_WAITING);
        assert_eq!(of(State::Waiting), wait);
        assert_eq!(of(State::Claimed), Decision::Go(Grade::Hardware));
        assert_eq!(of(State::Enrolled), Decision::Go(Grade::Hardware));
        assert_eq!(of(State::Retired), Decision::Refused(Problem::Released));
    }

    #[test]
    fn a_device_does_not_change_its_kind() {
        let mut software = device(State::Claimed);
        software.kind = Kind::Software;
        let expected = Decision::Refused(Problem::KeyChanged);
        assert_eq!(decide(&REQUEST, Some(&software), GRADES, 0), expected);
    }

    /// Kind, what the claim list says, what the certificate says, and the grade.
    #[test]
    fn the_grade_comes_from_who_vouches_for_the_key() {
        use Grade::{Emulated, Hardware, HardwareVerified, Software};
        for (kind, claimed, endorsed, expected) in [
            (Kind::Software, None, None, Some(Software)),
            (Kind::Software, Some(Hardware), Some(Hardware), Some(Software)),
            (Kind::Tpm, None, None, None),
            (Kind::Tpm, Some(Software), None, None),
            (Kind::Tpm, Some(Emulated), None, Some(Emulated)),
            (Kind::Tpm, Some(Hardware), None, Some(Hardware)),
            (Kind::Tpm, None, Some(HardwareVerified), Some(HardwareVerified)),
            (Kind::Tpm, Some(Emulated), Some(HardwareVerified), Some(Emulated)),
            (Kind::Tpm, Some(HardwareVerified), Some(Emulated), Some(Emulated)),
        ] {
            assert_eq!(
                grade(kind, claimed, endorsed),
                expected,
                "{kind:?} {claimed:?} {endorsed:?}"
            );
        }
    }

    #[test]
    fn an_emulated_tpm_is_refused_where_it_is_not_taken() {
        let mut emulated = device(State::Claimed);
        emulated.claimed_grade = Some(Grade::Emulated);
        let refused = Decision::Refused(Problem::GradeRefused);
        assert_eq!(decide(&REQUEST, Some(&emulated), GRADES, 0), refused);
        let taken = Grades::of(&[Grade::Emulated]);
        assert_eq!(decide(&REQUEST, Some(&emulated), taken, 0), Decision::Go(Grade::Emulated));
        emulated.claimed_grade = None;
        let all = Grades::of(&Grade::ALL);
        assert_eq!(decide(&REQUEST, Some(&emulated), all, 0), refused, "nobody vouches for it");
    }
}
