//! Success is an attestation: of a device that lies in every field that it chooses, only what its TPM has measured counts.

use holdfast_evidence::attest::{Certification, ClockInfo, Header, Quote, Signature, Signed};
use holdfast_evidence::claims::{Claims, Phase};
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_evidence::policy::{BootDigest, PcrDigest, PolicyDigest};
use holdfast_evidence::public::{AttestationKey, Point, Public, Template};
use holdfast_evidence::qualifying::{Exporter, Purpose, QualifyingData};
use holdfast_evidence::service::Ring;
use holdfast_evidence::verify::{Evidence, KeyEvidence};
use holdfast_failure_reports::Level;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::check_in::{CheckIn, Decision, Rules, Verified, decide};
use holdfast_service_domain::deployment::slot::Outcome;
use holdfast_service_domain::deployment::slot::{Sighting, Slot, Target};
use holdfast_service_domain::detection::containment::Contained;
use holdfast_service_domain::device::{Device, Kind, State};
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_domain::measurement::Release;
use holdfast_service_domain::receipt::Receipts;
use holdfast_swtpm::claims;
use holdfast_types::{Slot as BootSlot, Version};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

const OLD: Release = release(0xb0, 3, 6);
const NEW: Release = release(0xb1, 4, 7);
const TARGET: Target = Target { subject: ReleaseSubject::Os, version: NEW.version };
const CLOCK: ClockInfo = ClockInfo { clock_ms: 1000, reset_count: 2, restart_count: 0, safe: true };

const fn release(boot: u8, minor: u32, index: u64) -> Release {
    let version = Version { major: 1, minor, patch: 0 };
    Release { boot: BootDigest([boot; 32]), version, index, withdrawn: false }
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

/// What the verifier returns of a TPM that has measured this, for whoever claims that.
fn verified(claims: &Claims, measured: &BootDigest) -> Verified {
    let (exporter, ak) = (Exporter([0x0e; 32]), Key::new());
    let ak_public = AttestationKey::read(&ak.public(&Template::Attestation)).unwrap();
    let claims = claims.to_bytes().unwrap();
    let data = QualifyingData::of_quote(&exporter, &claims);
    let header = |data: &QualifyingData| Header {
        signer: ak_public.public().name().qualified_in_endorsement(),
        extra: *data.bytes(),
        clock: CLOCK,
        firmware: 0x2023,
    };
    let pcr = PcrDigest::of_one_extend(measured);
    let quote = Quote { header: header(&data), pcr }.to_bytes();
    let template = Template::Signing(PolicyDigest::of_pcr(&pcr));
    let public = Key::new().public(&template);
    let name = Public::read(&public, &template).unwrap().name();
    let of_key = header(&data.of_key(&Purpose::Device));
    let attest = Certification { header: of_key, name, qualified_name: name }.to_bytes();
    let signature = ak.sign(&attest);
    let certification = Signed { attest: &attest, signature: &signature };
    let keys = [KeyEvidence { purpose: Purpose::Device, public: &public, certification }];
    let signature = ak.sign(&quote);
    let quote = Signed { attest: &quote, signature: &signature };
    let evidence = Evidence { claims: &claims, quote, keys: &keys };
    Verified::Tpm(holdfast_evidence::verify(&evidence, &exporter, &ak_public, &Ring).unwrap())
}

fn decided(claims: &Claims, measured: &BootDigest, returned: u64) -> Decision {
    let device = Device {
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
    };
    let rules = Rules { least_index: 0, grades: Grades::OF_NEW_CATALOGS, reports: Level::Health };
    let verified = verified(claims, measured);
    let known = [OLD, NEW];
    let release = known.iter().find(|release| release.pcr() == verified.measured());
    decide(&CheckIn {
        device: &device,
        rules: &rules,
        contained: &Contained::default(),
        verified: &verified,
        release,
        returned: Some(returned),
        is_emergency: false,
        every_s: 86_400,
        now: 10_000,
    })
}

fn outcome(claims: &Claims, measured: &BootDigest, returned: u64) -> Outcome {
    let sighting = Sighting::of(&TARGET, &decided(claims, measured, returned), claims);
    Slot::grant(9000, 99_999).seen(sighting, 10_000, 99_999).outcome
}

fn claiming(release: &Release, phase: Phase) -> Claims {
    let mut claims = claims();
    claims.os.digest = release.boot;
    (claims.os.version, claims.os.index) = (release.version, release.index);
    claims.os.phase = phase;
    claims
}

#[test]
fn what_was_measured_and_is_committed_has_succeeded() {
    assert_eq!(outcome(&claiming(&NEW, Phase::Committed), &NEW.boot, 5), Outcome::Committed);
    assert_eq!(outcome(&claiming(&NEW, Phase::Trying), &NEW.boot, 5), Outcome::Trial);
    assert_eq!(outcome(&claiming(&OLD, Phase::Committed), &OLD.boot, 5), Outcome::Granted);
    assert_eq!(outcome(&claiming(&OLD, Phase::FallingBack), &OLD.boot, 5), Outcome::FellBack);
    // The claim alone is none: another release was measured.
    assert_eq!(outcome(&claiming(&NEW, Phase::Committed), &OLD.boot, 5), Outcome::Granted);
    // A copy of a device that has succeeded shows nothing.
    assert_eq!(outcome(&claiming(&NEW, Phase::Committed), &NEW.boot, 1), Outcome::Granted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_device_that_lies_in_every_field_succeeds_by_what_it_measures_alone(
        measured in 0usize..3, claimed in 0usize..3, minor in 3u32..5, index in 6u64..8,
        phase in 0usize..4, debug: bool, slot: bool, returned in 0u64..8,
    ) {
        let digests = [OLD.boot, NEW.boot, BootDigest([0xee; 32])];
        let phases = [Phase::Committed, Phase::Staged, Phase::Trying, Phase::FallingBack];
        let mut claims = claims();
        claims.os.digest = digests[claimed];
        claims.os.version = Version { major: 1, minor, patch: 0 };
        claims.os.index = index;
        claims.os.phase = phases[phase];
        claims.os.slot = if slot { BootSlot::A } else { BootSlot::B };
        claims.debug = debug;
        let succeeded = outcome(&claims, &digests[measured], returned) == Outcome::Committed;
        let is_measured = digests[measured] == NEW.boot;
        prop_assert!(!succeeded || (is_measured && phase < 2), "{claims:?}");
        // Nobody can have another's failure counted either: without the measurement there is none.
        if measured == 2 {
            prop_assert_eq!(outcome(&claims, &digests[measured], returned), Outcome::Granted);
        }
    }
}
