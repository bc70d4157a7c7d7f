//! Decisions on check-ins, of devices whose keys are in this process in place of a TPM.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::attest::{Certification, ClockInfo, Header, Quote, Signature, Signed};
use holdfast_evidence::claims::{Claims, Phase};
use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::policy::{BootDigest, PcrDigest, PolicyDigest};
use holdfast_evidence::public::{AttestationKey, Point, Public, Template};
use holdfast_evidence::qualifying::{Exporter, Purpose, QualifyingData};
use holdfast_evidence::service::Ring;
use holdfast_evidence::verify::{Evidence, KeyEvidence};
use holdfast_failure_reports::Level;
use holdfast_service_domain::check_in::{
    CheckIn, CheckInWrite, Decision, Issue, Rules, Verdict, Verified, decide,
};
use holdfast_service_domain::detection::containment::{Action, Contained};
use holdfast_service_domain::detection::subject::{Part, Subject};
use holdfast_service_domain::device::{Device, Finding, Kind, State};
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_domain::leaf::policy_of;
use holdfast_service_domain::measurement::Release;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::receipt::Receipts;
use holdfast_service_domain::schedule::{EMERGENCY_NEXT_S, EVERY_S, TRIAL_NEXT_S};
use holdfast_swtpm::{APP, BOOT, claims};
use holdfast_types::Version;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

const NOW: u64 = 1_800_000_000;
const VERSION: Version = Version { major: 1, minor: 4, patch: 0 };
const CLOCK: ClockInfo = ClockInfo { clock_ms: 1000, reset_count: 2, restart_count: 0, safe: true };
const RULES: Rules =
    Rules { least_index: 7, grades: Grades::OF_NEW_CATALOGS, reports: Level::Health };
const RELEASE: Release = Release { boot: BOOT, version: VERSION, index: 7, withdrawn: false };

fn device() -> Device {
    Device {
        catalog: CatalogId([1; 16]),
        id: DeviceId([2; 32]),
        kind: Kind::Tpm,
        state: State::Enrolled,
        claimed_grade: Some(Grade::Hardware),
        grade: Some(Grade::Hardware),
        key: Some(vec![3; 90]),
        quarantined: false,
        receipts: Receipts { newest: 5, returned: 4 },
        clock: Some(CLOCK),
        revision: 9,
    }
}

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    fn public(&self, template: &Template) -> Vec<u8> {
        let area = template.area(&Point::from_uncompressed(self.0.public_key().as_ref()).unwrap());
        [&u16::try_from(area.len()).unwrap().to_be_bytes()[..], &area].concat()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), message).unwrap();
        Signature(signature.as_ref().try_into().unwrap()).to_bytes()
    }
}

/// What the verifier returns of a device with these claims, this PCR 8 and this clock.
fn attested(claims: &Claims, pcr: PcrDigest, clock: ClockInfo) -> Verified {
    let exporter = Exporter([0x0e; 32]);
    let ak = Key::new();
    let ak_public = AttestationKey::read(&ak.public(&Template::Attestation)).unwrap();
    let claims = claims.to_bytes().unwrap();
    let data = QualifyingData::of_quote(&exporter, &claims);
    let header = |data: &QualifyingData| Header {
        signer: ak_public.public().name().qualified_in_endorsement(),
        extra: *data.bytes(),
        clock,
        firmware: 0x2023,
    };
    let quote = Quote { header: header(&data), pcr }.to_bytes();
    let template = Template::Signing(PolicyDigest::of_pcr(&pcr));
    let certify = |purpose: Purpose| {
        let public = Key::new().public(&template);
        let name = Public::read(&public, &template).unwrap().name();
        let header = header(&data.of_key(&purpose));
        let attest = Certification { header, name, qualified_name: name }.to_bytes();
        let signature = ak.sign(&attest);
        (purpose, public, attest, signature)
    };
    let keys = [certify(Purpose::Device), certify(Purpose::App(APP))];
    let keys: Vec<KeyEvidence<'_>> = keys
        .iter()
        .map(|(purpose, public, attest, signature)| KeyEvidence {
            purpose: *purpose,
            public,
            certification: Signed { attest, signature },
        })
        .collect();
    let signature = ak.sign(&quote);
    let quote = Signed { attest: &quote, signature: &signature };
    let evidence = Evidence { claims: &claims, quote, keys: &keys };
    Verified::Tpm(holdfast_evidence::verify(&evidence, &exporter, &ak_public, &Ring).unwrap())
}

fn good() -> Verified {
    attested(&claims(), PcrDigest::of_one_extend(&BOOT), CLOCK)
}

fn decided(
    device: &Device,
    verified: &Verified,
    release: Option<&Release>,
    returned: Option<u64>,
) -> Decision {
    decided_with(&Contained::default(), device, verified, release, returned)
}

fn decided_with(
    contained: &Contained,
    device: &Device,
    verified: &Verified,
    release: Option<&Release>,
    returned: Option<u64>,
) -> Decision {
    decide(&CheckIn {
        device,
        rules: &RULES,
        contained,
        verified,
        release,
        returned,
        is_emergency: false,
        every_s: EVERY_S.1,
        now: NOW,
    })
}

/// Whoever attests a version that is contained gets certificates for updates alone, and is told why.
#[test]
fn a_version_that_is_contained_gets_certificates_for_updates_alone() {
    let with = |version| {
        let mut contained = Contained::default();
        let subject = Subject { part: Part::App(APP), version: Some(version) };
        contained.apply(&Action::QuarantineVersion(subject), 1).unwrap();
        let decision = decided_with(&contained, &device(), &good(), Some(&RELEASE), Some(5));
        (issue(&decision).profile, issue(&decision).reasons.clone(), decision.write.verdict)
    };
    let attested = claims().apps[0].version;
    assert_eq!(with(attested), (Profile::UpdateOnly, vec![Problem::Contained], "update-only"));
    let corrected = Version { patch: attested.patch + 1, ..attested };
    assert_eq!(with(corrected), (Profile::Full, vec![], "full"), "the control");
}

fn issue(decision: &Decision) -> &Issue {
    match &decision.verdict {
        Verdict::Issue(issue) => issue,
        Verdict::Refused(problem) => panic!("refused: {problem:?}"),
    }
}

#[test]
fn what_is_issued_is_what_is_written() {
    let decision = decided(&device(), &good(), Some(&RELEASE), Some(5));
    let issue = issue(&decision);
    assert_eq!((issue.profile, issue.until), (Profile::Full, NOW + 48 * 60 * 60));
    assert_eq!(issue.receipt, 6);
    let purposes: Vec<Purpose> = issue.leaves.iter().map(|leaf| leaf.purpose).collect();
    assert_eq!(purposes, [Purpose::Device, Purpose::App(APP)]);
    for leaf in &issue.leaves {
        assert_eq!((leaf.version, leaf.index), (VERSION, 7));
        assert_eq!(leaf.policy, policy_of(Grade::Hardware));
        assert_eq!((leaf.not_before, leaf.not_after), (NOW - 600, issue.until));
    }
    let expected = CheckInWrite {
        revision: 9,
        receipts: Receipts { newest: 6, returned: 5 },
        clock: Some(CLOCK),
        verdict: "full",
        release: Some(RELEASE),
        phase: Phase::Committed,
        certificate_end: Some(issue.until),
        next_at: Some(NOW + u64::from(issue.next_s)),
        findings: vec![],
        at: NOW,
    };
    assert_eq!(decision.write, expected);
}

#[test]
fn a_release_on_trial_is_good_for_two_hours() {
    let mut claims = claims();
    claims.os.phase = Phase::Trying;
    let verified = attested(&claims, PcrDigest::of_one_extend(&BOOT), CLOCK);
    let decision = decided(&device(), &verified, Some(&RELEASE), Some(5));
    let issue = issue(&decision);
    assert_eq!((issue.profile, issue.until, issue.next_s), (Profile::Full, NOW + 7200, 3600));
}

#[test]
fn a_device_on_trial_comes_again_no_later_than_the_installation_says() {
    let mut claims = claims();
    claims.os.phase = Phase::Trying;
    let verified = attested(&claims, PcrDigest::of_one_extend(&BOOT), CLOCK);
    let next_s = |every_s| {
        let decision = decide(&CheckIn {
            device: &device(),
            rules: &RULES,
            contained: &Contained::default(),
            verified: &verified,
            release: Some(&RELEASE),
            returned: Some(5),
            is_emergency: false,
            every_s,
            now: NOW,
        });
        issue(&decision).next_s
    };
    assert_eq!(next_s(EVERY_S.1), TRIAL_NEXT_S);
    assert!(next_s(EVERY_S.0) < 90);
}

#[test]
fn a_device_comes_again_soon_while_an_emergency_is_on_its_way() {
    let next_s = |is_emergency, every_s| {
        let (device, verified, contained) = (device(), good(), Contained::default());
        let decision = decide(&CheckIn {
            device: &device,
            rules: &RULES,
            contained: &contained,
            verified: &verified,
            release: Some(&RELEASE),
            returned: Some(5),
            is_emergency,
            every_s,
            now: NOW,
        });
        let issue = issue(&decision).clone();
        assert_eq!(issue.until, NOW + 48 * 60 * 60, "its certificates are as long");
        assert_eq!(decision.write.next_at, Some(NOW + u64::from(issue.next_s)));
        issue.next_s
    };
    let day_s = EVERY_S.1;
    assert_eq!(next_s(true, day_s), EMERGENCY_NEXT_S);
    assert!(next_s(false, day_s) >= 12 * 60 * 60, "the control");
    // Where devices come more often than that anyway, an emergency has none come later.
    for is_emergency in [false, true] {
        assert!((30..90).contains(&next_s(is_emergency, EVERY_S.0)), "{is_emergency}");
    }
}

#[test]
fn for_updates_alone_the_device_has_a_certificate_and_apps_have_none() {
    let withdrawn = Release { withdrawn: true, ..RELEASE };
    let decision = decided(&device(), &good(), Some(&withdrawn), Some(5));
    let issue = issue(&decision);
    assert_eq!((issue.profile, issue.leaves.len()), (Profile::UpdateOnly, 1));
    assert_eq!(issue.leaves[0].purpose, Purpose::Device);
    assert_eq!(issue.reasons, [Problem::ReleaseWithdrawn]);
    assert_eq!(decision.write.findings, [Finding::ReleaseWithdrawn]);
}

/// A release that the caller has looked up for something else than what was measured.
#[test]
fn a_release_that_was_not_measured_is_none() {
    let other = attested(&claims(), PcrDigest::of_one_extend(&BootDigest([9; 32])), CLOCK);
    for (verified, release, finding) in [
        (&other, Some(&RELEASE), Finding::ClaimsDisagree),
        (&other, None, Finding::MeasurementUnknown),
    ] {
        let decision = decided(&device(), verified, release, Some(5));
        assert_eq!(decision.verdict, Verdict::Refused(Problem::MeasurementUnknown));
        assert_eq!(decision.write.findings, [finding]);
        assert_eq!(decision.write.verdict, "measurement-unknown");
        assert_eq!(
            decision.write.receipts,
            device().receipts,
            "no receipt is given with a refusal"
        );
        assert_eq!((decision.write.certificate_end, decision.write.next_at), (None, None));
    }
}

#[test]
fn the_tpms_clock_is_kept_and_may_not_go_back() {
    let before = ClockInfo { reset_count: 1, ..CLOCK };
    let after = ClockInfo { reset_count: 3, ..CLOCK };
    for (clock, reasons) in
        [(before, vec![Problem::TpmClockWentBack]), (CLOCK, vec![]), (after, vec![])]
    {
        let verified = attested(&claims(), PcrDigest::of_one_extend(&BOOT), clock);
        let decision = decided(&device(), &verified, Some(&RELEASE), Some(5));
        assert_eq!(issue(&decision).reasons, reasons);
        assert_eq!(decision.write.clock, Some(clock));
    }
}

#[test]
fn a_device_of_a_grade_that_is_not_taken_gets_nothing() {
    let mut emulated = device();
    emulated.grade = Some(Grade::Emulated);
    let decision = decided(&emulated, &good(), Some(&RELEASE), Some(5));
    assert_eq!(decision.verdict, Verdict::Refused(Problem::GradeRefused));
    emulated.grade = None;
    let software = decided(&emulated, &good(), Some(&RELEASE), Some(5));
    let policies: Vec<_> = issue(&software).leaves.iter().map(|leaf| leaf.policy.clone()).collect();
    assert_eq!(policies[0], policy_of(Grade::Software), "nobody vouched for more");
}
