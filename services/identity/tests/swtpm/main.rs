//! The whole service with a real TPM, in software, and with keys of software: what it sends is verified, and what it is sent
//! may be anything.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod service;
mod transfer;
mod transport;

use holdfast_evidence::claims::{ClockSource, Phase, Slot, TpmState};
use holdfast_evidence::config::IdentityConfig;
use holdfast_evidence::exchange::{ExchangeReply, ExchangeRequest};
use holdfast_evidence::messages::{
    Bytes, CheckInAnswer, EnrolAnswer, EnrolKey, EnrolRequest, Holder, IssuedChain,
    MAX_ANSWER_BYTES,
};
use holdfast_evidence::policy::BootDigest;
use holdfast_evidence::public::{AttestationKey, EndorsementKey};
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_evidence::service::Ring;
use holdfast_evidence::transfer::Chain;
use holdfast_evidence::verify::VerifySignature;
use holdfast_identity::device::{Device, World};
use holdfast_identity::keys::Keys;
use holdfast_identity::software_keys::{SoftwareKey, SoftwareKeys};
use holdfast_identity::state::Enrolment;
use holdfast_identity::tpm::{Cause, Tpm};
use holdfast_identity::tpm_keys::{Endorsed, TpmKeys};
use holdfast_sandbox::wire::{ClaimedApp, DeviceClaims};
use holdfast_swtpm::Tpm as Emulator;
use holdfast_types::event::Event;
use holdfast_types::event::identity as event;
use holdfast_types::{CatalogId, ComponentId, Version};
use serde::Serialize;
use service::{Service, holders};
use transport::{Fault, Shared, Way, shared};

const CATALOG: CatalogId = CatalogId([0xca; 16]);
const BOOT: BootDigest = BootDigest([0xb0; 32]);
const APP: ComponentId = ComponentId([0xa1; 16]);
const FOREIGN_APP: ComponentId = ComponentId([0xa2; 16]);
const PLAIN_APP: ComponentId = ComponentId([0xa3; 16]);
const E1: [u8; 32] = [1; 32];
const E2: [u8; 32] = [2; 32];
const E3: [u8; 32] = [3; 32];

/// What identity says once it has kept the service's answer.
fn kept_for_a_day() -> ExchangeReply {
    let reports = Some("full".to_owned());
    ExchangeReply::Kept { next_s: 86_912, is_for_updates_alone: false, reports }
}

/// What a device finds around it.
#[derive(Debug, Default)]
struct Around {
    saved: Option<Enrolment>,
    owners: Chain,
    now: Option<u64>,
    cannot_save: bool,
    on_trial: bool,
    log: Vec<(Event, String)>,
}

impl World for Around {
    fn claims(&mut self) -> Result<DeviceClaims, Cause> {
        let version = Version { major: 1, minor: 4, patch: 0 };
        let app = |id, catalog| ClaimedApp {
            id,
            version,
            rollback_index: 3,
            root_hash: [0x41; 32],
            catalog,
        };
        Ok(DeviceClaims {
            boot_id: [0x6b; 16],
            image: "pump-fw".to_owned(),
            board: "qemu-virt".to_owned(),
            version,
            rollback_index: 7,
            slot: Slot::B,
            phase: if self.on_trial { Phase::Trying } else { Phase::Committed },
            apps: vec![
                app(APP, Some(CATALOG)),
                app(FOREIGN_APP, Some(CatalogId([0xcb; 16]))),
                app(PLAIN_APP, None),
            ],
            is_debugged: false,
            clock: if self.now.is_some() { ClockSource::Network } else { ClockSource::Floor },
            last_reset: "power-on".to_owned(),
            kernel_fault: None,
            has_tpm: true,
        })
    }

    fn boot_digest(&mut self) -> Result<BootDigest, Cause> {
        Ok(BOOT)
    }

    fn save(&mut self, enrolment: &Enrolment) -> Result<(), Cause> {
        if self.cannot_save {
            return Err("the medium is full".into());
        }
        self.saved = Some(enrolment.clone());
        Ok(())
    }

    fn save_owners(&mut self, vouchers: &Chain) -> Result<(), Cause> {
        if self.cannot_save {
            return Err("the medium is full".into());
        }
        self.owners = vouchers.clone();
        Ok(())
    }

    fn now(&self) -> u64 {
        self.now.unwrap_or_default()
    }

    fn log(&mut self, event: Event, text: &str) {
        self.log.push((event, text.to_owned()));
    }
}

impl Around {
    fn has_logged(&self, event: Event, text: &str) -> bool {
        self.log.iter().any(|(logged, line)| *logged == event && line.contains(text))
    }
}

fn config() -> IdentityConfig {
    IdentityConfig { catalog: CATALOG, catalog_root: b"root".to_vec(), epoch: 0 }
}

fn tpm_keys(shared: &Shared) -> TpmKeys {
    keys_of(shared, &config())
}

fn keys_of(shared: &Shared, owner: &IdentityConfig) -> TpmKeys {
    let tpm = Tpm::new(Box::new(Way(Shared::clone(shared))));
    Endorsed::begin(tpm).unwrap().attesting(owner.unique()).unwrap()
}

fn measured() -> Shared {
    let mut tpm = Emulator::start();
    tpm.extend_pcr_8(&BOOT.0);
    shared(tpm)
}

fn tpm_device(shared: &Shared) -> Device {
    Device::new(config(), Chain::default(), Keys::Tpm(tpm_keys(shared)), None)
}

fn software_device() -> Device {
    let key = SoftwareKey::read(&SoftwareKey::make().unwrap()).unwrap();
    Device::new(config(), Chain::default(), Keys::Software(SoftwareKeys::new(key)), None)
}

fn body(device: &mut Device, around: &mut Around, request: ExchangeRequest) -> Vec<u8> {
    match device.answer(&request, around) {
        ExchangeReply::Body(body) => body,
        other => panic!("{request:?}: {other:?}: {:?}", around.log),
    }
}

fn json<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap()
}

/// Enrols a device as `uplink` does it.
fn enrol(device: &mut Device, around: &mut Around, service: &mut Service) {
    let first = body(device, around, ExchangeRequest::Enrol(E1));
    let answer = service.enrol(&first, &Exporter(E1), None);
    match &answer {
        EnrolAnswer::Challenge { .. } => {
            let finish = ExchangeRequest::Finish { answer: json(&answer), exporter: E2 };
            let second = body(device, around, finish);
            assert!(service.finish(&second, &Exporter(E2)));
            assert!(!service.finish(&second, &Exporter(E1)), "another connection");
        }
        EnrolAnswer::Enrolled { device: id } => assert_eq!(*id, device.keys().id()),
        EnrolAnswer::Waiting { .. } | EnrolAnswer::Transferred { .. } => {
            panic!("nothing waits here")
        }
    }
    let kept = device.answer(&ExchangeRequest::Enrolled, around);
    assert_eq!(kept, ExchangeReply::Kept { next_s: 0, is_for_updates_alone: false, reports: None });
    assert!(around.has_logged(event::IDENTITY_ENROLLED, &device.keys().id().to_string()));
}

/// Checks in, and returns the answer that was kept.
fn check_in(device: &mut Device, around: &mut Around, service: &mut Service) -> CheckInAnswer {
    let sent = body(device, around, ExchangeRequest::CheckIn(E3));
    let believed = service.believe(&sent, &Exporter(E3)).unwrap();
    let answer = service.answer(&believed.keys);
    let kept = device.answer(&ExchangeRequest::Keep(json(&answer)), around);
    assert_eq!(kept, kept_for_a_day(), "{:?}", around.log);
    answer
}

#[test]
fn a_device_enrols_and_checks_in() {
    let tpm = measured();
    for (mut device, grade) in [(tpm_device(&tpm), "tpm"), (software_device(), "software")] {
        let (mut around, mut service) = (Around::default(), Service::new());
        assert_eq!(device.keys().grade(), grade);
        let id = device.keys().id();
        let describe = |device: &mut Device, around: &mut Around| {
            device.answer(&ExchangeRequest::Describe, around)
        };
        let described = describe(&mut device, &mut around);
        assert_eq!(described, ExchangeReply::device(&id, false, false));
        enrol(&mut device, &mut around, &mut service);
        around.on_trial = true;
        let described = describe(&mut device, &mut around);
        assert_eq!(described, ExchangeReply::device(&id, true, true));
        around.on_trial = false;

        let sent = body(&mut device, &mut around, ExchangeRequest::CheckIn(E3));
        let believed = service.believe(&sent, &Exporter(E3)).unwrap();
        assert_eq!(believed.claims.os.digest, BOOT);
        assert_eq!(believed.claims.apps.len(), 3, "all that runs is claimed");
        assert_eq!(believed.claims.reset, "power-on");
        let holds: Vec<Purpose> = believed.keys.iter().map(|key| key.purpose).collect();
        assert_eq!(holds, holders(), "and certified is who asks for this catalog");
        match believed.pcr {
            Some(pcr) => assert!(pcr.is_one_extend_of(&BOOT)),
            None => assert_eq!(believed.claims.tpm, TpmState::None),
        }
        let relayed = service.believe(&sent, &Exporter(E2)).err().unwrap();
        assert!(relayed.contains("QualifyingData") || relayed == "Forged", "{relayed}");

        // The keys sign for whom they are certified, and the next check-in returns the receipt.
        let answer = service.answer(&believed.keys);
        device.answer(&ExchangeRequest::Keep(json(&answer)), &mut around);
        for key in &believed.keys {
            assert_eq!(device.chain(&key.purpose).unwrap().len(), 2);
            let signature = device.sign(&key.purpose, b"a handshake").unwrap().unwrap();
            assert!(Ring.is_valid(&key.point, b"a handshake", &signature));
        }
        assert!(device.sign(&Purpose::App(FOREIGN_APP), b"a handshake").is_none());
        let next = check_in(&mut device, &mut around, &mut service);
        assert_eq!(next.certificates.len(), 2);
        let saved = around.saved.unwrap();
        assert_eq!((saved.receipt, saved.until), (service.receipt, 1_800_000_000));
    }
    assert_eq!(tpm.borrow().loaded.len(), 0, "something was not flushed");
}

/// TPM commands of an enrolment, of a check-in with `keys` certified keys, and of a signature: a TPM on a slow bus takes a
/// tenth of a second for most of them, and `docs/security-service.md` tells how many there are.
#[test]
fn tpm_commands_are_counted() {
    let tpm = measured();
    let mut device = tpm_device(&tpm);
    let (mut around, mut service) = (Around::default(), Service::new());
    let count = |work: &mut dyn FnMut()| {
        let before = tpm.borrow().commands;
        work();
        tpm.borrow().commands - before
    };
    let enrolment = count(&mut || enrol(&mut device, &mut around, &mut service));
    let keys = holders().len();
    let first = count(&mut || drop(check_in(&mut device, &mut around, &mut service)));
    let next = count(&mut || drop(check_in(&mut device, &mut around, &mut service)));
    let signature = count(&mut || {
        device.sign(&Purpose::App(APP), b"a handshake").unwrap().unwrap();
    });
    assert_eq!((enrolment, first, next, signature), (9, 5 + 4 * keys, 5 + 4 * keys, 8));
}

/// A maker's certificate goes with the enrolment, without what its index is filled up with; a TPM without one enrols all the same.
#[test]
fn a_tpms_certificate_is_sent_with_its_enrolment() {
    let tpm = measured();
    let mut device = tpm_device(&tpm);
    let mut around = Around::default();
    let sent = |device: &mut Device, around: &mut Around| {
        let body = body(device, around, ExchangeRequest::Enrol(E1));
        let request: EnrolRequest = serde_json::from_slice(&body).unwrap();
        match request.key {
            EnrolKey::Tpm { ek_certificate, .. } => ek_certificate.map(|bytes| bytes.0),
            other @ EnrolKey::Software { .. } => panic!("{other:?}"),
        }
    };
    assert_eq!(sent(&mut device, &mut around), None);
    let certificate = [&[0x30, 0x82, 0x04, 0x00][..], &[7; 1024]].concat();
    let padded = [&certificate[..], &[0xff; 100]].concat();
    tpm.borrow_mut().tpm.put_index(0x01c0_000a, &padded);
    assert_eq!(sent(&mut device, &mut around), Some(certificate.clone()));
    // Refused at each of its commands, it is a TPM without a certificate; and it has one the next time.
    for at in 0..4 {
        let beginning = tpm.borrow().commands;
        tpm.borrow_mut().fault = Some((beginning + at, Fault::Refusal));
        assert_eq!(sent(&mut device, &mut around), None, "{at}");
        tpm.borrow_mut().fault = None;
        assert_eq!(sent(&mut device, &mut around), Some(certificate.clone()), "{at}");
    }
    let beginning = tpm.borrow().commands;
    tpm.borrow_mut().fault = Some((beginning + 1, Fault::Cut));
    let cut = device.answer(&ExchangeRequest::Enrol(E1), &mut around);
    assert_eq!(cut, ExchangeReply::NoIdentity, "it does not know what it says");
}

/// After a start with the same TPM it is the same device, which is enrolled and has its receipt.
#[test]
fn a_device_remembers_its_enrolment_and_another_one_does_not_take_it() {
    let tpm = measured();
    let (mut around, mut service) = (Around::default(), Service::new());
    let mut device = tpm_device(&tpm);
    let id = device.keys().id();
    enrol(&mut device, &mut around, &mut service);
    check_in(&mut device, &mut around, &mut service);
    drop(device);
    let remembered = around.saved.clone();
    let begin = |config: IdentityConfig| {
        let keys = Keys::Tpm(tpm_keys(&tpm));
        Device::new(config, Chain::default(), keys, remembered.clone())
    };
    let mut device = begin(config());
    let described = device.answer(&ExchangeRequest::Describe, &mut around);
    assert_eq!(described, ExchangeReply::device(&id, true, false));
    check_in(&mut device, &mut around, &mut service);
    // In another catalog it is not enrolled.
    let mut moved = begin(IdentityConfig { catalog: CatalogId([9; 16]), ..config() });
    let described = moved.answer(&ExchangeRequest::Describe, &mut around);
    assert_eq!(described, ExchangeReply::device(&id, false, false));
}

#[test]
fn an_enrolment_that_cannot_be_kept_is_good_until_the_next_start() {
    let (mut around, mut service) = (Around::default(), Service::new());
    around.cannot_save = true;
    let mut device = software_device();
    enrol(&mut device, &mut around, &mut service);
    check_in(&mut device, &mut around, &mut service);
    check_in(&mut device, &mut around, &mut service);
    assert!(around.has_logged(event::IDENTITY_STATE_PERSIST_FAILED, "the medium is full"));
}

#[test]
fn a_certificate_key_does_not_sign_after_another_release_boots() {
    let tpm = measured();
    let (mut around, mut service) = (Around::default(), Service::new());
    let mut device = tpm_device(&tpm);
    enrol(&mut device, &mut around, &mut service);
    check_in(&mut device, &mut around, &mut service);
    device.sign(&Purpose::Device, b"x").unwrap().expect("the control");
    tpm.borrow_mut().tpm.extend_pcr_8(&[0xb1; 32]);
    let refused = device.sign(&Purpose::Device, b"x").unwrap().unwrap_err();
    assert!(refused.to_string().contains("Policy"), "{refused}");
    assert_eq!(tpm.borrow().loaded.len(), 0);
}

/// The answer that is refused, and what the log says. Each is sent to a device that takes the right one afterwards.
#[test]
fn an_answer_to_an_enrolment_that_is_wrong_is_refused() {
    let (tpm, other) = (measured(), measured());
    let (mut around, mut service) = (Around::default(), Service::new());
    let mut device = tpm_device(&tpm);
    let other = tpm_keys(&other);
    let other_ek = EndorsementKey::read(&other.endorsement()).unwrap();
    let other_ak = AttestationKey::read(&other.attestation()).unwrap();
    let first = body(&mut device, &mut around, ExchangeRequest::Enrol(E1));
    let Keys::Tpm(own) = device.keys() else { panic!("no TPM") };
    let own_ek = EndorsementKey::read(&own.endorsement()).unwrap();
    let own_ak = AttestationKey::read(&own.attestation()).unwrap();
    let right = service.enrol(&first, &Exporter(E1), None);
    let changed = |change: fn(&mut EnrolAnswer)| {
        let mut answer = right.clone();
        change(&mut answer);
        json(&answer)
    };
    let mut made = |ek: &EndorsementKey, ak: &AttestationKey| {
        json(&service.enrol(&first, &Exporter(E1), Some((ek, ak))))
    };
    let cases = [
        (b"{}".to_vec(), "cannot be read"),
        (b"[".repeat(10_000), "cannot be read"),
        (vec![b' '; MAX_ANSWER_BYTES + 1], "cannot be read"),
        (json(&EnrolAnswer::Enrolled { device: device.keys().id() }), "does not ask"),
        (
            changed(|answer| {
                let EnrolAnswer::Challenge { enrolment, .. } = answer else { return };
                enrolment.0.push(0);
            }),
            "has 17 bytes, not 16",
        ),
        (
            changed(|answer| {
                let EnrolAnswer::Challenge { id_object, .. } = answer else { return };
                id_object.0.push(0);
            }),
            "credential is malformed",
        ),
        (
            changed(|answer| {
                let EnrolAnswer::Challenge { encrypted_seed, .. } = answer else { return };
                encrypted_seed.0.clear();
            }),
            "credential is malformed",
        ),
        (
            changed(|answer| {
                let EnrolAnswer::Challenge { id_object, .. } = answer else { return };
                id_object.0[69] ^= 1;
            }),
            "cannot activate a credential: the TPM answers",
        ),
        (made(&own_ek, &other_ak), "cannot activate a credential: the TPM answers"),
        (made(&other_ek, &own_ak), "cannot activate a credential: the TPM answers"),
    ];
    for (answer, says) in cases {
        around.log.clear();
        let request = ExchangeRequest::Finish { answer, exporter: E2 };
        assert_eq!(device.answer(&request, &mut around), ExchangeReply::Failed, "{says}");
        let logged = around.has_logged(event::IDENTITY_REQUEST_FAILED, says);
        assert!(logged, "{says}: {:?}", around.log);
        assert_eq!(tpm.borrow().loaded.len(), 0, "{says}");
    }
    let finish = ExchangeRequest::Finish { answer: json(&right), exporter: E2 };
    let proof = body(&mut device, &mut around, finish);
    assert!(service.finish(&proof, &Exporter(E2)), "the control");
    // A device without a TPM opens none.
    let mut software = software_device();
    let request = ExchangeRequest::Finish { answer: json(&right), exporter: E2 };
    assert_eq!(software.answer(&request, &mut around), ExchangeReply::Failed);
}

#[test]
fn certificates_for_other_keys_are_refused() {
    let (mut around, mut service) = (Around::default(), Service::new());
    let mut device = software_device();
    enrol(&mut device, &mut around, &mut service);
    let sent = body(&mut device, &mut around, ExchangeRequest::CheckIn(E3));
    let keys = service.believe(&sent, &Exporter(E3)).unwrap().keys;
    let right = service.answer(&keys);
    let stranger = SoftwareKey::read(&SoftwareKey::make().unwrap()).unwrap();
    let foreign = service.certificate(stranger.point());
    let app_leaf = right.certificates[1].chain[0].clone();
    type Change<'a> = Box<dyn Fn(&mut CheckInAnswer) + 'a>;
    let cases: Vec<(Change<'_>, &str)> = vec![
        (Box::new(|a| a.certificates[0].chain[0] = Bytes(foreign.clone())), "for another key"),
        // One app's certificate for the device, as whoever has taken that app and uplink over would have it.
        (Box::new(|a| a.certificates[0].chain[0] = app_leaf.clone()), "for another key"),
        (
            Box::new(|a| a.certificates[1].holder = Holder(Purpose::App(FOREIGN_APP))),
            "for another key",
        ),
        (Box::new(|a| a.certificates[1].holder = a.certificates[0].holder), "there twice"),
        (Box::new(|a| a.certificates[0].chain.clear()), "too many, too few"),
        (
            Box::new(|a| {
                let issuing = a.certificates[0].chain[1].clone();
                a.certificates[0].chain.extend(vec![issuing; 3]);
            }),
            "too many, too few",
        ),
        (Box::new(|a| a.certificates[0].chain[1] = Bytes(vec![0x30])), "is malformed"),
        (Box::new(|a| a.certificates[0].chain[0].0.push(0)), "is malformed"),
        (Box::new(|a| a.certificates[0].chain[0].0.resize(2049, 0)), "more than 2048"),
        (Box::new(|a| a.receipt.0.resize(97, 0)), "receipt has 97 bytes"),
    ];
    for (change, says) in cases {
        around.log.clear();
        let mut answer = right.clone();
        change(&mut answer);
        let request = ExchangeRequest::Keep(json(&answer));
        assert_eq!(device.answer(&request, &mut around), ExchangeReply::Failed, "{says}");
        assert!(
            around.has_logged(event::IDENTITY_REQUEST_FAILED, says),
            "{says}: {:?}",
            around.log
        );
        assert!(device.chain(&Purpose::Device).is_none());
    }
    let keep = ExchangeRequest::Keep(json(&right));
    let kept = device.answer(&keep, &mut around);
    assert_eq!(kept, kept_for_a_day(), "the control");
    // One answer for one check-in.
    assert_eq!(device.answer(&keep, &mut around), ExchangeReply::Failed);
    assert!(around.has_logged(event::IDENTITY_REQUEST_FAILED, "there was no check-in"));
    assert!(device.chain(&Purpose::Device).is_some());
    // Fewer certificates than keys are taken: who gets none has none.
    let sent = body(&mut device, &mut around, ExchangeRequest::CheckIn(E3));
    let keys = service.believe(&sent, &Exporter(E3)).unwrap().keys;
    let few = service.answer(&keys[..1]);
    device.answer(&ExchangeRequest::Keep(json(&few)), &mut around);
    assert!(device.chain(&Purpose::Device).is_some() && device.chain(&holders()[1]).is_none());
    // What a service calls a reason can forge no line.
    let sent = body(&mut device, &mut around, ExchangeRequest::CheckIn(E3));
    let keys = service.believe(&sent, &Exporter(E3)).unwrap().keys;
    let mut forging = service.answer(&keys);
    forging.reasons = vec!["x\nevent=reset_ordered".to_owned()];
    forging.certificates = Vec::<IssuedChain>::new();
    device.answer(&ExchangeRequest::Keep(json(&forging)), &mut around);
    assert!(around.log.iter().all(|(_, text)| !text.contains('\n')));
}

#[test]
fn a_tpm_in_failure_mode_is_said_and_survived() {
    let tpm = measured();
    let (mut around, mut service) = (Around::default(), Service::new());
    let mut device = tpm_device(&tpm);
    enrol(&mut device, &mut around, &mut service);
    check_in(&mut device, &mut around, &mut service);
    tpm.borrow_mut().tpm.fail();
    let commands = tpm.borrow().commands;
    let failed = device.answer(&ExchangeRequest::CheckIn(E3), &mut around);
    assert_eq!(failed, ExchangeReply::NoIdentity);
    assert!(around.has_logged(event::IDENTITY_TPM_FAILED, "Failure"), "{:?}", around.log);
    // It is asked no more, and nothing else takes its place.
    for request in [ExchangeRequest::Describe, ExchangeRequest::Enrol(E1)] {
        assert_eq!(device.answer(&request, &mut around), ExchangeReply::NoIdentity);
    }
    assert_eq!(tpm.borrow().commands, commands + 1);
    assert_eq!(device.keys().tpm(), TpmState::Failed);
}

/// At each command of each operation, the TPM is silent, refuses, or lies. Whatever was loaded is flushed, or the TPM was
/// closed, which flushes it; and a TPM that has only refused does the same thing the next time.
#[test]
fn nothing_stays_in_the_tpm_whatever_fails() {
    let tpm = measured();
    let (mut around, mut service) = (Around::default(), Service::new());
    let mut device = tpm_device(&tpm);
    let first = body(&mut device, &mut around, ExchangeRequest::Enrol(E1));
    let challenge = json(&service.enrol(&first, &Exporter(E1), None));
    let finish = ExchangeRequest::Finish { answer: challenge, exporter: E2 };
    for request in [finish, ExchangeRequest::CheckIn(E3)] {
        // How many commands there are, without a fault.
        let before = tpm.borrow().commands;
        body(&mut device, &mut around, request.clone());
        let commands = tpm.borrow().commands - before;
        assert!(commands >= 8, "{commands} commands");
        for at in 0..commands {
            let faults = [
                Fault::Silence,
                Fault::Refusal,
                Fault::Cut,
                Fault::Changed(1),
                Fault::Changed(5),
                Fault::Changed(11),
                Fault::Changed(20),
            ];
            for fault in faults {
                let beginning = tpm.borrow().commands;
                tpm.borrow_mut().fault = Some((beginning + at, fault));
                let reply = device.answer(&request, &mut around);
                tpm.borrow_mut().fault = None;
                let what = format!("{fault:?} at {at} of {request:?}: {reply:?}");
                let has_failed = device.keys().have_failed();
                if fault == Fault::Refusal && !has_failed {
                    assert!(!matches!(reply, ExchangeReply::NoIdentity), "{what}");
                }
                let is_open = !tpm.borrow().is_closed;
                if !has_failed {
                    assert!(is_open && tpm.borrow().loaded.is_empty(), "{what}");
                    body(&mut device, &mut around, request.clone());
                    continue;
                }
                // A flush that fails is one of the last commands, behind what was asked for.
                let done = matches!(reply, ExchangeReply::NoIdentity | ExchangeReply::Body(_));
                assert!(done, "{what}");
                let described = device.answer(&ExchangeRequest::Describe, &mut around);
                assert_eq!(described, ExchangeReply::NoIdentity, "{what}");
                // A TPM that was silent stays open: its close could wait for it. Everything else is closed, and flushed.
                assert_eq!(is_open, fault == Fault::Silence, "{what}");
                // The next start.
                drop(device);
                assert!(tpm.borrow().loaded.is_empty(), "{what}");
                tpm.borrow_mut().is_closed = false;
                device = tpm_device(&tpm);
                if let ExchangeRequest::Finish { .. } = request {
                    body(&mut device, &mut around, request.clone());
                }
            }
        }
    }
    assert!(tpm.borrow().loaded.is_empty());
}

#[test]
fn a_tpm_that_does_not_begin_has_no_device() {
    let tpm = measured();
    for at in 0..4 {
        for fault in [Fault::Silence, Fault::Refusal, Fault::Cut] {
            let beginning = tpm.borrow().commands;
            tpm.borrow_mut().fault = Some((beginning + at, fault));
            let way = Tpm::new(Box::new(Way(Shared::clone(&tpm))));
            let begun = Endorsed::begin(way);
            let begun = begun.and_then(|endorsed| endorsed.attesting(config().unique()));
            assert!(begun.is_err() || begun.is_ok_and(|keys| keys.has_failed()), "{at}");
            assert!(tpm.borrow().loaded.is_empty(), "{fault:?} at {at}");
            tpm.borrow_mut().fault = None;
        }
    }
    tpm_keys(&tpm);
}
