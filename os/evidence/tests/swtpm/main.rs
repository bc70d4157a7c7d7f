//! The whole way with a real TPM, in software: the commands of this crate, what swtpm answers, and the verifier.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::attest::Signed;
use holdfast_evidence::command::{self, Authorization, Hierarchy};
use holdfast_evidence::credential::{Agreement, Credential};
use holdfast_evidence::object::{Created, Handle};
use holdfast_evidence::policy::{BootDigest, PcrDigest, PolicyDigest};
use holdfast_evidence::public::{AttestationKey, EndorsementKey, Public, Template};
use holdfast_evidence::qualifying::{Exporter, Purpose, QualifyingData};
use holdfast_evidence::response::{self, Meaning, ResponseError};
use holdfast_evidence::service::Ring;
use holdfast_evidence::verify;
use holdfast_evidence::verify::{Attested, Evidence, EvidenceError, KeyEvidence, VerifySignature};
use holdfast_swtpm::{APP, BOOT, Tpm, claims};
use sha2::{Digest, Sha256};

const EXPORTER: Exporter = Exporter([0x0e; 32]);
const OTHER_BOOT: BootDigest = BootDigest([0xb1; 32]);
/// Of catalog root and epoch.
const UNIQUE: [u8; 32] = [0xca; 32];

fn refused<T: std::fmt::Debug>(answer: Result<T, ResponseError>) -> Meaning {
    match answer {
        Err(ResponseError::Refused(code)) => code.meaning(),
        other => panic!("not refused by the TPM: {other:?}"),
    }
}

/// The attestation key, read back from the TPM's own answer.
fn attestation_key(tpm: &mut Tpm) -> (Handle, AttestationKey) {
    let ak = tpm.attestation_key();
    (ak.handle, AttestationKey::read(&ak.public).unwrap())
}

fn endorsement_key(tpm: &mut Tpm) -> (Handle, EndorsementKey) {
    let ek = tpm.endorsement_key();
    (ek.handle, EndorsementKey::read(&ek.public).unwrap())
}

/// Signs while PCR 8 is as it was when the key was made. True if the signature is the key's.
fn sign(tpm: &mut Tpm, key: &Created) -> Result<bool, ResponseError> {
    let digest = Sha256::digest(b"a handshake").into();
    let answer = tpm.sign(key, &digest);
    let template = Template::Signing(policy(&BOOT));
    let public = Public::read(key.public(), &template).unwrap();
    let signature = response::signature(&answer)?;
    Ok(Ring.is_valid(public.point(), b"a handshake", &signature))
}

fn policy(boot: &BootDigest) -> PolicyDigest {
    PolicyDigest::of_pcr(&PcrDigest::of_one_extend(boot))
}

/// The messages of a check-in, as a TPM has made them.
struct CheckIn {
    claims: Vec<u8>,
    quote: Vec<u8>,
    keys: Vec<(Purpose, Vec<u8>, Vec<u8>)>,
}

impl CheckIn {
    fn make(tpm: &mut Tpm, keys: &[(Purpose, &Created)]) -> Self {
        let claims = claims().to_bytes().unwrap();
        let data = QualifyingData::of_quote(&EXPORTER, &claims);
        let (ak, _) = attestation_key(tpm);
        let quote = tpm.send(&command::quote(ak, &data));
        let certify = |(purpose, key): &(Purpose, &Created)| {
            let loaded = tpm.load(key);
            let answer = tpm.send(&command::certify(loaded, ak, &data.of_key(purpose)));
            tpm.flush(loaded);
            (*purpose, key.public().to_vec(), answer)
        };
        let keys = keys.iter().map(certify).collect();
        tpm.flush(ak);
        Self { claims, quote, keys }
    }

    fn verify(&self, ak: &AttestationKey) -> Result<Attested, EvidenceError> {
        let of_key = |(purpose, public, answer): &'_ (Purpose, Vec<u8>, Vec<u8>)| {
            let certification: Signed<'_> = response::certified(answer).unwrap();
            (
                *purpose,
                public.clone(),
                certification.attest.to_vec(),
                certification.signature.to_vec(),
            )
        };
        let keys: Vec<_> = self.keys.iter().map(of_key).collect();
        let keys: Vec<KeyEvidence<'_>> = keys
            .iter()
            .map(|(purpose, public, attest, signature)| KeyEvidence {
                purpose: *purpose,
                public,
                certification: Signed { attest, signature },
            })
            .collect();
        let quote = response::quoted(&self.quote).unwrap();
        verify(&Evidence { claims: &self.claims, quote, keys: &keys }, &EXPORTER, ak, &Ring)
    }
}

#[test]
fn a_device_enrols_and_checks_in_with_a_real_tpm() {
    let mut tpm = Tpm::start();
    tpm.extend_pcr_8(&BOOT.0);

    // Enrolment: attestation key and endorsement key are in one TPM.
    let (ak_handle, ak) = attestation_key(&mut tpm);
    let (ek_handle, ek) = endorsement_key(&mut tpm);
    let agreement = Agreement::with(&ek).unwrap();
    let secret = [0x5e; 32];
    let credential = Credential::make(&ek, &ak.public().name(), &secret, &agreement);
    let received = Credential::read(&credential.id_object(), &credential.encrypted_seed());
    assert_eq!(tpm.activate_with(ak_handle, ek_handle, &received.unwrap()), Ok(secret));
    tpm.flush(ek_handle);
    tpm.flush(ak_handle);

    // Check-in: two keys, a quote, and what they attest.
    let template = Template::Signing(policy(&BOOT));
    let (own, app) = (tpm.create(&template), tpm.create(&template));
    let keys = [(Purpose::Device, &own), (Purpose::App(APP), &app)];
    let check_in = CheckIn::make(&mut tpm, &keys);
    let attested = check_in.verify(&ak).unwrap();
    assert_eq!(attested.claims, claims());
    assert!(attested.claims_agree_with_measurement());
    let points: Vec<_> = attested.keys.iter().map(|key| key.point).collect();
    let point = |key: &Created| *Public::read(key.public(), &template).unwrap().point();
    assert_eq!(points, [point(&own), point(&app)]);

    // The keys sign while this release runs, and by their policy alone.
    assert_eq!(sign(&mut tpm, &own), Ok(true));
    let loaded = tpm.load(&own);
    let by_password = tpm.send(&command::sign(loaded, Authorization::Empty, &[0; 32]));
    assert_eq!(refused(response::signature(&by_password)), Meaning::Authorization);
    tpm.flush(loaded);

    // Another release extends its digest behind this one's.
    tpm.extend_pcr_8(&OTHER_BOOT.0);
    assert_eq!(refused(sign(&mut tpm, &own)), Meaning::Policy);
    let after = CheckIn::make(&mut tpm, &keys).verify(&ak);
    let says = format!("{:?}", after.unwrap_err());
    assert!(says.contains("OtherTemplate(\"authPolicy\")"), "{says}");
}

#[test]
fn a_credential_opens_in_its_tpm_and_for_its_key_alone() {
    let (mut tpm, mut other) = (Tpm::start(), Tpm::start());
    let (ak_handle, ak) = attestation_key(&mut tpm);
    let (ek_handle, ek) = endorsement_key(&mut tpm);
    let (_, other_ek) = endorsement_key(&mut other);
    let (_, other_ak) = attestation_key(&mut other);
    assert_ne!((ek.public().point(), ak.public().point()), {
        (other_ek.public().point(), other_ak.public().point())
    });
    let mut opened = |ek: &EndorsementKey, ak: &AttestationKey| {
        let agreement = Agreement::with(ek).unwrap();
        let credential = Credential::make(ek, &ak.public().name(), &[0x5e; 32], &agreement);
        tpm.activate_with(ak_handle, ek_handle, &credential)
    };
    assert_eq!(opened(&ek, &ak), Ok([0x5e; 32]), "the control");
    assert_eq!(refused(opened(&ek, &other_ak)), Meaning::Integrity, "for another key");
    assert_eq!(refused(opened(&other_ek, &ak)), Meaning::Integrity, "for another TPM");
}

#[test]
fn an_attestation_key_of_another_tpm_is_refused() {
    let (mut tpm, mut other) = (Tpm::start(), Tpm::start());
    for tpm in [&mut tpm, &mut other] {
        tpm.extend_pcr_8(&BOOT.0);
    }
    let (handle, ak) = attestation_key(&mut tpm);
    tpm.flush(handle);
    let key = tpm.create(&Template::Signing(policy(&BOOT)));
    let check_in = CheckIn::make(&mut tpm, &[(Purpose::Device, &key)]);
    check_in.verify(&ak).expect("the control");
    let (_, other_ak) = attestation_key(&mut other);
    let says = format!("{:?}", check_in.verify(&other_ak).unwrap_err());
    assert_eq!(says, "Quote(Signer)");
}

/// The attestation key is the same after each reset, the TPM counts resets, and a key signs in boots of its release.
#[test]
fn a_certificate_key_does_not_sign_after_another_release_boots() {
    let mut tpm = Tpm::start();
    tpm.extend_pcr_8(&BOOT.0);
    let (handle, ak) = attestation_key(&mut tpm);
    tpm.flush(handle);
    let key = tpm.create(&Template::Signing(policy(&BOOT)));
    let first = CheckIn::make(&mut tpm, &[(Purpose::Device, &key)]).verify(&ak).unwrap();

    tpm.reset();
    assert_eq!(refused(sign(&mut tpm, &key)), Meaning::Policy, "nothing has been measured");
    tpm.extend_pcr_8(&BOOT.0);
    assert_eq!(sign(&mut tpm, &key), Ok(true), "the same release");
    let second = CheckIn::make(&mut tpm, &[(Purpose::Device, &key)]).verify(&ak).unwrap();
    assert!(second.clock.reset_count > first.clock.reset_count);
    assert!(second.clock.is_not_before(&first.clock) && !first.clock.is_not_before(&second.clock));

    tpm.reset();
    tpm.extend_pcr_8(&OTHER_BOOT.0);
    assert_eq!(refused(sign(&mut tpm, &key)), Meaning::Policy, "another release");
}

/// PCR 8 of what runs is one extend. A release whose digest follows another's is none, and a TPM that was not reset with
/// its board has two.
#[test]
fn extending_another_release_later_does_not_pass_for_it() {
    let mut tpm = Tpm::start();
    let data = QualifyingData::of_quote(&EXPORTER, b"");
    let quoted = |tpm: &mut Tpm| {
        let (ak, _) = attestation_key(tpm);
        let answer = tpm.send(&command::quote(ak, &data));
        tpm.flush(ak);
        let quote = response::quoted(&answer).unwrap();
        holdfast_evidence::attest::Quote::read(quote.attest).unwrap().pcr
    };
    assert_eq!(quoted(&mut tpm), PcrDigest::of_no_extend());
    tpm.extend_pcr_8(&OTHER_BOOT.0);
    assert!(quoted(&mut tpm).is_one_extend_of(&OTHER_BOOT), "the control");
    tpm.extend_pcr_8(&BOOT.0);
    let both = quoted(&mut tpm);
    assert!(!both.is_one_extend_of(&BOOT) && !both.is_one_extend_of(&OTHER_BOOT));
}

#[test]
fn a_tpm_says_what_it_lacks() {
    let mut tpm = Tpm::start();
    let random = tpm.send(&command::get_random(32));
    assert_eq!(response::random(&random).unwrap().len(), 32);
    // TPM_PT_FAMILY_INDICATOR is "2.0" and a zero.
    let properties = tpm.send(&command::get_properties(0x100, 4));
    let properties = response::properties(&properties).unwrap();
    assert_eq!(properties.first(), Some(&(0x100, u32::from_be_bytes(*b"2.0\0"))));
    // What is not flushed fills it.
    let mut answers = (0..64).map(|_| tpm.send(&command::start_policy_session(&[7; 32])));
    let full = answers.find_map(|answer| response::session(&answer).err()).unwrap();
    assert_eq!(refused::<()>(Err(full)), Meaning::NoRoom);
}

#[test]
fn a_tpm_in_failure_mode_is_said_and_survived() {
    let mut tpm = Tpm::start();
    response::random(&tpm.send(&command::get_random(8))).expect("the control");
    tpm.fail();
    let answer =
        tpm.send(&command::create_primary(Hierarchy::Endorsement, &Template::Attestation, &UNIQUE));
    assert_eq!(refused(response::primary(&answer)), Meaning::Failure);
}
