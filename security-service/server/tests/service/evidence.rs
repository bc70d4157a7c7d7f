//! Evidence: what is attested gets certificates, and what is only said does not. Each hostile check has its control.

use crate::device::{
    SoftwareDevice, TpmDevice, checked_in, post, software_device, software_key, tpm_device,
};
use crate::installation::{BOOT, Installation, OTHER_BOOT};
use holdfast_evidence::claims::{Phase, TpmState};
use holdfast_evidence::messages::{
    Bytes, CHECK_IN_PATH, CheckInRequest, ENROL_PATH, EnrolKey, EvidenceMessage, FINISH_PATH,
    IssuedChain, Profile,
};
use holdfast_evidence::policy::{BootDigest, PcrDigest, PolicyDigest};
use holdfast_evidence::public::{Point, Template};
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_service_clients::Answer;
use holdfast_service_domain::grade::Grade;
use holdfast_service_issuing::lint::verify_chain;
use holdfast_types::Version;
use holdfast_types::hex::hex;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use webpki::{EndEntityCert, KeyUsage};

fn verify(service: &Installation, chain: &IssuedChain) -> Result<(), webpki::Error> {
    let [leaf, issuing] = &chain.chain[..] else { panic!("{chain:?}") };
    verify_chain(&leaf.0, &issuing.0, &service.root, KeyUsage::client_auth(), service.now())
}

/// Sends a check-in that a test has changed, over the connection that it was made for.
fn changed(
    service: &Installation,
    device: &mut TpmDevice,
    change: impl FnOnce(&mut CheckInRequest),
) -> Answer {
    let mut client = service.device.connect();
    let mut request = device.request(&client.exporter(&device.id.0));
    change(&mut request);
    post(&mut client, CHECK_IN_PATH, &request)
}

fn is_refused(answer: &Answer, problem: &str) {
    assert_eq!((answer.status >= 400, answer.problem().as_str()), (true, problem), "{answer:?}");
    assert!(!answer.body.windows(12).any(|part| part == b"certificates"), "{answer:?}");
}

#[test]
fn a_device_with_a_tpm_gets_certificates_that_others_believe() {
    let mut service = Installation::new();
    let mut device = TpmDevice::new(service.catalog);
    let id = device.id.to_string();
    let waiting = device.enrol(&service.device);
    assert_eq!((waiting.status, waiting.json()["state"].as_str()), (202, Some("waiting")));
    is_refused(&device.check_in(&service.device), "unknown-device");
    service.claim(&id, Grade::Emulated);
    assert_eq!(device.enrol(&service.device).status, 200);

    let answer = checked_in(&device.check_in(&service.device));
    assert_eq!((answer.profile, answer.reasons.len()), (Profile::Full, 0));
    assert_eq!(answer.until, service.now() + 48 * 60 * 60);
    let holders: Vec<Purpose> = answer.certificates.iter().map(|chain| chain.holder.0).collect();
    assert_eq!(holders, [Purpose::Device, Purpose::App(crate::device::APP)]);
    for chain in &answer.certificates {
        verify(&service, chain).unwrap();
        let leaf = CertificateDer::from(chain.chain[0].0.as_slice());
        let leaf = EndEntityCert::try_from(&leaf).unwrap();
        let uris: Vec<&str> = leaf.valid_uri_names().collect();
        let of_device = format!("spiffe://{}.holdfast/device/{id}", service.catalog);
        assert!(uris.len() == 1 && uris[0].starts_with(&of_device), "{uris:?}");
        let der = &chain.chain[0].0;
        assert!(der.windows(64).any(|part| part == id.as_bytes()), "the common name is the id");
    }
    // Another start of the service knows all of it.
    service.restart();
    let again = checked_in(&device.check_in(&service.device));
    assert_eq!(again.profile, Profile::Full);
    let shown = service.device(&id);
    assert_eq!(
        (shown["verdict"].as_str(), shown["grade"].as_str()),
        (Some("full"), Some("emulated"))
    );
    assert_eq!(service.findings(&id), [""; 0]);
}

#[test]
fn a_replayed_check_in_is_refused() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let mut client = service.device.connect();
    let request = device.request(&client.exporter(&device.id.0));
    checked_in(&post(&mut client, CHECK_IN_PATH, &request));
    let replayed = post(&mut service.device.connect(), CHECK_IN_PATH, &request);
    is_refused(&replayed, "evidence-refused");
}

#[test]
fn evidence_relayed_over_another_connection_is_refused() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    // Both connections are open at once: a relay sits between them.
    let (near, mut far) = (service.device.connect(), service.device.connect());
    let relayed = device.request(&near.exporter(&device.id.0));
    is_refused(&post(&mut far, CHECK_IN_PATH, &relayed), "evidence-refused");
    // The proof of an enrolment is bound to its connection as well.
    let request = device.enrol_request();
    let challenge = post(&mut service.device.connect(), ENROL_PATH, &request);
    let finish = device.finish_request(&challenge, &near.exporter(&device.id.0));
    is_refused(&post(&mut far, FINISH_PATH, &finish), "evidence-refused");
    checked_in(&device.check_in(&service.device));
}

#[test]
fn a_quote_of_other_pcrs_is_refused() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let changed = changed(&service, &mut device, |request| {
        let EvidenceMessage::Tpm { quote, .. } = &mut request.evidence else { panic!() };
        // The second octet of the selection: PCR 9 in place of 8.
        let at = quote.attest.0.len() - 34 - 2;
        assert_eq!(quote.attest.0[at], 1, "the control: PCR 8 is selected here");
        quote.attest.0[at] = 2;
    });
    is_refused(&changed, "evidence-refused");
    checked_in(&device.check_in(&service.device));
}

#[test]
fn a_wrong_pcr_gets_no_certificate() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    checked_in(&device.check_in(&service.device));
    // Another release extends its digest behind this one's, and a device that measures nothing.
    for extends in [&[][..], &[OTHER_BOOT], &[OTHER_BOOT, BOOT], &[BOOT, BOOT]] {
        device.tpm.reset();
        for digest in extends {
            device.tpm.extend_pcr_8(digest);
        }
        let pcr = extends.iter().fold([0; 32], |pcr: [u8; 32], digest| {
            use sha2::{Digest, Sha256};
            Sha256::new().chain_update(pcr).chain_update(digest).finalize().into()
        });
        let pcr = PcrDigest(<sha2::Sha256 as sha2::Digest>::digest(pcr).into());
        let template = Template::Signing(PolicyDigest::of_pcr(&pcr));
        let mut client = service.device.connect();
        let request = device.request_with(&client.exporter(&device.id.0), &template);
        let answer = post(&mut client, CHECK_IN_PATH, &request);
        is_refused(&answer, "measurement-unknown");
    }
    assert_eq!(service.findings(&device.id.to_string()), ["measurement-unknown"]);
    // Booted as released, it is healed, and the finding stays.
    device.tpm.reset();
    device.tpm.extend_pcr_8(&BOOT);
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full);
    assert_eq!(service.findings(&device.id.to_string()), ["measurement-unknown"]);
}

#[test]
fn claims_that_disagree_with_the_measurement_get_no_certificate() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let good = device.claims.clone();
    device.claims.os.version = Version { major: 1, minor: 5, patch: 0 };
    is_refused(&device.check_in(&service.device), "measurement-unknown");
    device.claims = good.clone();
    device.claims.os.digest = BootDigest(OTHER_BOOT);
    is_refused(&device.check_in(&service.device), "measurement-unknown");
    assert_eq!(service.findings(&device.id.to_string()), ["claims-disagree"]);
    device.claims = good;
    checked_in(&device.check_in(&service.device));
}

#[test]
fn an_attestation_key_of_another_tpm_is_refused() {
    let service = Installation::new();
    let (mut device, mut other) = (tpm_device(&service), tpm_device(&service));
    let mut client = service.device.connect();
    let mut request = other.request(&client.exporter(&device.id.0));
    request.device = device.id;
    is_refused(&post(&mut client, CHECK_IN_PATH, &request), "evidence-refused");
    checked_in(&device.check_in(&service.device));
    checked_in(&other.check_in(&service.device));
}

#[test]
fn a_credential_for_another_tpm_is_not_opened() {
    let service = Installation::new();
    let (mut device, mut other) =
        (TpmDevice::new(service.catalog), TpmDevice::new(service.catalog));
    service.claim(&device.id.to_string(), Grade::Emulated);
    // The endorsement key of one TPM with the attestation key of another: the credential is for both.
    let mut mixed = device.enrol_request();
    let EnrolKey::Tpm { ak, .. } = &mut mixed.key else { panic!() };
    let EnrolKey::Tpm { ak: foreign, .. } = other.enrol_request().key else { panic!() };
    *ak = foreign;
    let challenge = post(&mut service.device.connect(), ENROL_PATH, &mixed);
    let challenge: Value = challenge.json();
    let part = |name: &str| {
        use base64::Engine;
        let text = challenge[name].as_str().unwrap();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
    };
    let (id_object, seed) = (part("id_object"), part("encrypted_seed"));
    let credential = holdfast_evidence::credential::Credential::read(&id_object, &seed).unwrap();
    device.tpm.activate(&credential).unwrap_err();
    other.tpm.activate(&credential).unwrap_err();
    assert_eq!(device.enrol(&service.device).status, 200, "the control");
}

/// Both keys are shown to be in the TPM before anything is noted about the device.
#[test]
fn a_device_with_another_attestation_key_is_refused_and_found() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let id = device.id.to_string();
    let mut request = device.enrol_request();
    let EnrolKey::Tpm { ak, .. } = &mut request.key else { panic!() };
    let other = device.tpm.attestation_key_of([0xcb; 32]);
    *ak = Bytes(other.public.clone());
    let challenge = post(&mut service.device.connect(), ENROL_PATH, &request);
    assert_eq!(challenge.status, 200, "{challenge:?}");
    assert_eq!(service.findings(&id), [""; 0], "nothing was shown yet");
    let mut client = service.device.connect();
    let exporter = client.exporter(&device.id.0);
    let finish = device.finish_with(&challenge, &exporter, other);
    let answer = post(&mut client, FINISH_PATH, &finish);
    is_refused(&answer, "key-changed");
    assert_eq!(answer.status, 409);
    assert_eq!(service.findings(&id), ["key-changed"]);
    assert_eq!(device.enrol(&service.device).status, 200, "with the key that is known");
    checked_in(&device.check_in(&service.device));
}

#[test]
fn an_unrestricted_attestation_key_is_not_enrolled() {
    let service = Installation::new();
    let mut device = TpmDevice::new(service.catalog);
    service.claim(&device.id.to_string(), Grade::Emulated);
    let mut request = device.enrol_request();
    let EnrolKey::Tpm { ak, .. } = &mut request.key else { panic!() };
    // `restricted` is bit 16 of the attributes, which begin at the sixth byte.
    assert_eq!(ak.0[7] & 1, 1, "the control: it is restricted");
    ak.0[7] &= !1;
    is_refused(&post(&mut service.device.connect(), ENROL_PATH, &request), "key-refused");
    assert_eq!(device.enrol(&service.device).status, 200, "the control");
}

#[test]
fn a_key_outside_the_tpm_is_not_certified() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let outside = changed(&service, &mut device, |request| {
        let EvidenceMessage::Tpm { keys, .. } = &mut request.evidence else { panic!() };
        let point = Point::from_uncompressed(&crate::device::point(&software_key())).unwrap();
        let policy = PolicyDigest::of_pcr(&PcrDigest::of_one_extend(&BootDigest(BOOT)));
        let area = Template::Signing(policy).area(&point);
        let length = u16::try_from(area.len()).unwrap().to_be_bytes();
        keys[0].public = Bytes([&length[..], &area].concat());
    });
    is_refused(&outside, "evidence-refused");
    checked_in(&device.check_in(&service.device));
}

#[test]
fn a_certified_key_with_another_policy_is_refused() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let policy = PolicyDigest::of_pcr(&PcrDigest::of_one_extend(&BootDigest(OTHER_BOOT)));
    let mut client = service.device.connect();
    let exporter = client.exporter(&device.id.0);
    let request = device.request_with(&exporter, &Template::Signing(policy));
    is_refused(&post(&mut client, CHECK_IN_PATH, &request), "evidence-refused");
    checked_in(&device.check_in(&service.device));
}

/// One app's certificate is not made out for another purpose's key.
#[test]
fn a_key_that_was_certified_for_another_purpose_is_refused() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let swapped = changed(&service, &mut device, |request| {
        let EvidenceMessage::Tpm { keys, .. } = &mut request.evidence else { panic!() };
        let (first, second) = (keys[0].holder, keys[1].holder);
        (keys[0].holder, keys[1].holder) = (second, first);
    });
    is_refused(&swapped, "evidence-refused");
    checked_in(&device.check_in(&service.device));
}

#[test]
fn a_tpm_clock_that_went_back_is_a_finding() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    device.tpm.reset();
    device.tpm.extend_pcr_8(&BOOT);
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full);
    // Somebody clears the TPM: its counts of resets begin again. The attestation key stays, below the maker's seed.
    device.tpm.clear();
    let answer = checked_in(&device.check_in(&service.device));
    assert_eq!(
        (answer.profile, &answer.reasons[..]),
        (Profile::UpdateOnly, &["tpm-clock-went-back".to_owned()][..])
    );
    assert_eq!(service.findings(&device.id.to_string()), ["tpm-clock-went-back"]);
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full, "it heals");
}

#[test]
fn a_copied_software_device_is_found() {
    let service = Installation::new();
    let mut device = software_device(&service);
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full);
    let mut copy = device.clone();
    let first = checked_in(&device.check_in(&service.device));
    assert_eq!(first.profile, Profile::Full, "the control: nobody has used the copy");
    // The copy looks like the device whose last answer was lost.
    assert_eq!(checked_in(&copy.check_in(&service.device)).profile, Profile::Full);
    let found = checked_in(&device.check_in(&service.device));
    assert_eq!(
        (found.profile, &found.reasons[..]),
        (Profile::UpdateOnly, &["receipt-forked".to_owned()][..])
    );
    assert_eq!(service.findings(&device.id.to_string()), ["receipt-forked"]);
    // Without its receipt it does not pass for a new one.
    copy.receipt = None;
    assert_eq!(checked_in(&copy.check_in(&service.device)).profile, Profile::UpdateOnly);
}

#[test]
fn an_answer_that_was_lost_costs_nothing() {
    let service = Installation::new();
    let mut device = software_device(&service);
    for lost in [true, true, false, true, false] {
        let before = device.receipt.clone();
        assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full);
        if lost {
            device.receipt = before;
        }
    }
    assert_eq!(service.findings(&device.id.to_string()), [""; 0]);
}

#[test]
fn another_catalogs_device_is_not_seen() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    let headers = format!("Authorization: Bearer {}\r\n", service.token);
    let made = service.management.ask("POST", "/v1/catalogs", &headers, br#"{"name":"other"}"#);
    let other = made.json()["id"].as_str().unwrap().to_owned();
    let own = device.catalog;
    device.catalog = holdfast_evidence::messages::CatalogId::parse(&other).unwrap();
    is_refused(&device.check_in(&service.device), "unknown-device");
    device.catalog = holdfast_evidence::messages::CatalogId([0xee; 16]);
    is_refused(&device.check_in(&service.device), "unknown-catalog");
    let path = format!("/v1/catalogs/{other}/devices/{}", device.id);
    assert_eq!(service.management.ask("GET", &path, &headers, b"").status, 404);
    device.catalog = own;
    checked_in(&device.check_in(&service.device));
}

#[test]
fn an_emulated_tpm_is_refused_by_a_catalog_that_does_not_take_it() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    checked_in(&device.check_in(&service.device));
    service.done("PATCH", "", &json!({"grades": ["hardware-verified", "hardware", "software"]}));
    is_refused(&device.check_in(&service.device), "grade-refused");
    let mut other = TpmDevice::new(service.catalog);
    service.claim(&other.id.to_string(), Grade::Emulated);
    is_refused(&other.enrol(&service.device), "grade-refused");
    // A group may take what its catalog does not.
    service.done("PUT", "/products/pump", &Value::Null);
    service.done("PUT", "/products/pump/groups/test", &json!({"grades": ["emulated"]}));
    let place = json!({"product": "pump", "group": "test"});
    service.done("POST", &format!("/devices/{}/move", device.id), &place);
    checked_in(&device.check_in(&service.device));
}

#[test]
fn a_device_whose_release_was_withdrawn_heals_itself() {
    let service = Installation::new();
    let mut device = tpm_device(&service);
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full);
    service.done("POST", &format!("/releases/{}/withdraw", hex(&BOOT)), &Value::Null);
    let withdrawn = checked_in(&device.check_in(&service.device));
    assert_eq!(withdrawn.profile, Profile::UpdateOnly);
    assert_eq!(withdrawn.reasons, ["release-withdrawn"]);
    assert_eq!(withdrawn.certificates.len(), 1, "apps get none");
    let refused = verify(&service, &withdrawn.certificates[0]);
    assert!(matches!(refused, Err(webpki::Error::RequiredEkuNotFoundContext(_))), "{refused:?}");
    // The device takes the next release, and nobody has to do anything.
    service.add_release(&OTHER_BOOT, "1.4.1", 8);
    device.tpm.reset();
    device.tpm.extend_pcr_8(&OTHER_BOOT);
    device.claims.os.digest = BootDigest(OTHER_BOOT);
    device.claims.os.version = Version { major: 1, minor: 4, patch: 1 };
    device.claims.os.index = 8;
    device.claims.os.phase = Phase::Trying;
    let policy = PolicyDigest::of_pcr(&PcrDigest::of_one_extend(&BootDigest(OTHER_BOOT)));
    let mut client = service.device.connect();
    let exporter = client.exporter(&device.id.0);
    let request = device.request_with(&exporter, &Template::Signing(policy));
    let healed = checked_in(&post(&mut client, CHECK_IN_PATH, &request));
    assert_eq!((healed.profile, healed.until), (Profile::Full, service.now() + 2 * 60 * 60));
    verify(&service, &healed.certificates[0]).unwrap();
    assert_eq!(service.findings(&device.id.to_string()), ["release-withdrawn"]);
}

#[test]
fn what_the_owner_decides_takes_effect_at_the_next_check_in() {
    let service = Installation::new();
    let mut device = software_device(&service);
    let id = device.id.to_string();
    let profile = |device: &mut SoftwareDevice| {
        let answer = checked_in(&device.check_in(&service.device));
        (answer.profile, answer.reasons)
    };
    assert_eq!(profile(&mut device), (Profile::Full, vec![]));
    service.done("POST", &format!("/devices/{id}/quarantine"), &Value::Null);
    assert_eq!(profile(&mut device), (Profile::UpdateOnly, vec!["quarantined".to_owned()]));
    service.done("POST", &format!("/devices/{id}/end-quarantine"), &Value::Null);
    assert_eq!(profile(&mut device), (Profile::Full, vec![]));
    service.done("PUT", "/products/pump", &Value::Null);
    service.done("PUT", "/products/pump/groups/new", &json!({"least_index": 8}));
    let place = json!({"product": "pump", "group": "new"});
    service.done("POST", &format!("/devices/{id}/move"), &place);
    assert_eq!(profile(&mut device), (Profile::UpdateOnly, vec!["below-least-index".to_owned()]));
    device.claims.debug = true;
    let (_, reasons) = profile(&mut device);
    assert_eq!(reasons, ["below-least-index", "debug-build"]);
    service.done("POST", &format!("/devices/{id}/retire"), &Value::Null);
    is_refused(&device.check_in(&service.device), "released");
}

/// A copy of the same software key claims to have a TPM, and the reverse.
#[test]
fn a_device_does_not_change_its_kind() {
    let service = Installation::new();
    let mut tpm = tpm_device(&service);
    let software = software_device(&service);
    let mut client = service.device.connect();
    let mut request = software.request(&client.exporter(&tpm.id.0));
    request.device = tpm.id;
    is_refused(&post(&mut client, CHECK_IN_PATH, &request), "evidence-refused");
    let mut claimed = software.clone();
    claimed.claims.tpm = TpmState::Ok;
    let (mut client, id) = (service.device.connect(), software.id);
    let mut request = tpm.request(&client.exporter(&id.0));
    request.device = id;
    is_refused(&post(&mut client, CHECK_IN_PATH, &request), "evidence-refused");
    checked_in(&tpm.check_in(&service.device));
}

#[test]
fn each_of_10_000_nonces_differs() {
    // The nonce is the exporter, so it is one of each connection: handshakes without the network, with the service's own
    // configuration.
    let service = Installation::new();
    let config = holdfast_service::tls::load(&service.folder, &service.settings.tls, service.now());
    let server = std::sync::Arc::new(config.unwrap().device);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(service.device.authorities.clone());
    let client = std::sync::Arc::new(client.with_no_client_auth());
    let mut nonces = BTreeSet::new();
    for number in 0..10_000 {
        let name = "service.example".try_into().unwrap();
        let mut near = rustls::ClientConnection::new(client.clone(), name).unwrap();
        let mut far = rustls::ServerConnection::new(server.clone()).unwrap();
        while near.is_handshaking() || far.is_handshaking() {
            let mut bytes = Vec::new();
            near.write_tls(&mut bytes).unwrap();
            far.read_tls(&mut &bytes[..]).unwrap();
            far.process_new_packets().unwrap();
            bytes.clear();
            far.write_tls(&mut bytes).unwrap();
            near.read_tls(&mut &bytes[..]).unwrap();
            near.process_new_packets().unwrap();
        }
        let label = holdfast_evidence::qualifying::EXPORTER_LABEL;
        let export = far.export_keying_material([0; 32], label, Some(&[7; 32])).unwrap();
        assert_eq!(near.export_keying_material([0; 32], label, Some(&[7; 32])).unwrap(), export);
        if number == 0 {
            let other = far.export_keying_material([0; 32], label, Some(&[8; 32])).unwrap();
            assert_ne!(export, other, "the device is a part of it");
        }
        assert!(nonces.insert(Exporter(export).0));
    }
    assert_eq!(nonces.len(), 10_000);
}
