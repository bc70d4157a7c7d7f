//! Apps with an identity service of keys in memory: connections that stand, and peers that are refused.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod connection;

use connection::{Outcome, connect, plain_client, plain_server, roots};
use holdfast_evidence::messages::{CatalogId, Profile};
use holdfast_sdk_identity::{
    Grade, Identity, IdentityError, Peer, PeerPolicy, PeerRefusal, PeerVerifier, ServiceError,
    SigningError, crypto_provider,
};
use holdfast_service_domain::grade::Grade as ServiceGrade;
use holdfast_service_domain::leaf::{policy_of, release_extension};
use holdfast_test_identity::{CAMERA, Fleet, Held, INDEX, PUMP, Service, Wanted, now};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, ServerConfig, SignatureScheme};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time within which an app has a certificate.
const PATIENCE: Duration = Duration::from_secs(20);

/// An app on a device: the identity service, and what talks to it.
struct Device {
    service: Service,
    app: Identity,
}

impl Device {
    fn with(held: Held) -> Self {
        let service = Service::start(Some(held));
        let app = Identity::connect_to(&service.address()).unwrap();
        app.wait(PATIENCE).unwrap();
        Self { service, app }
    }

    fn client(&self, policy: PeerPolicy) -> Arc<ClientConfig> {
        Arc::new(self.app.client_for_peers(policy).unwrap())
    }

    fn server(&self, policy: PeerPolicy) -> Arc<ServerConfig> {
        Arc::new(self.app.server_for_peers(policy).unwrap())
    }
}

/// A pump that a camera connects to.
fn pair(fleet: &Fleet, camera: Wanted, pump: Wanted) -> (Device, Device) {
    let pump = Wanted { component: Some(PUMP), device: 0xd2, ..pump };
    (Device::with(fleet.issue(camera)), Device::with(fleet.issue(pump)))
}

fn usual() -> PeerPolicy {
    PeerPolicy::default()
}

/// A peer that differs from the usual one is refused in either role, and the usual one is taken.
fn refused_in_either_role(peer: impl Fn(&Fleet) -> Held, policy: PeerPolicy) -> [PeerRefusal; 2] {
    let fleet = Fleet::new();
    let own = Device::with(fleet.issue(Wanted { device: 0xd0, ..Wanted::default() }));
    let (other, control) =
        (Device::with(peer(&fleet)), Device::with(fleet.issue(Wanted::default())));
    connect(&own.client(policy.clone()), &control.server(usual())).succeeded();
    connect(&control.client(usual()), &own.server(policy.clone())).succeeded();
    let as_server = connect(&own.client(policy.clone()), &other.server(usual()));
    let as_client = connect(&other.client(usual()), &own.server(policy));
    as_server.failed();
    assert!(as_client.client.is_err(), "{as_client:?}");
    [as_server.of_client(), as_client.of_server()]
}

#[test]
fn two_apps_connect_by_tls_13_and_know_each_other() {
    let fleet = Fleet::new();
    let (camera, pump) = pair(&fleet, Wanted::default(), Wanted::default());
    let to_pump = PeerPolicy {
        component: Some(PUMP),
        device: Some("d2".repeat(32).parse().unwrap()),
        grades: vec![Grade::Hardware, Grade::HardwareVerified],
        least_rollback_index: INDEX,
    };
    let to_camera = PeerPolicy { component: Some(CAMERA), ..usual() };
    let (client, server) = (camera.client(to_pump), pump.server(to_camera));
    for _ in 0..2 {
        let (of_client, of_server) = connect(&client, &server).succeeded();
        assert_eq!(of_client.version, Some(ProtocolVersion::TLSv1_3));
        let is_resumed = of_client.resumed || of_server.resumed;
        assert!(!is_resumed, "the peer was not verified again");
        let (found_pump, found_camera) = (of_client.peer.unwrap(), of_server.peer.unwrap());
        assert_eq!(&found_pump, pump.app.current().unwrap().own());
        assert_eq!(&found_camera, camera.app.current().unwrap().own());
        assert_eq!(found_pump.component, Some(PUMP));
        assert_eq!(found_pump.release.rollback_index, INDEX);
        assert_eq!(found_pump.release.version.to_string(), "1.4.0");
        assert_eq!(found_pump.grade, Grade::Hardware);
    }
    let signed = [&camera, &pump].map(|device| device.service.signed());
    assert_eq!(signed, [2, 2]);
}

#[test]
fn a_peer_whose_release_is_too_old_is_refused() {
    let policy = PeerPolicy { least_rollback_index: INDEX, ..usual() };
    let old = Wanted { index: INDEX - 1, ..Wanted::default() };
    for refusal in refused_in_either_role(|fleet| fleet.issue(old), policy) {
        let expected = matches!(refusal, PeerRefusal::Release { found: 6, least: 7 });
        assert!(expected, "{refusal:?}");
    }
}

#[test]
fn a_peer_of_another_catalog_is_refused() {
    let foreign = |fleet: &Fleet| {
        // It takes our peers, so that it is refused and does not refuse.
        let other = Fleet::new().issue(Wanted::default());
        Held { anchors: vec![fleet.root.clone()], ..other }
    };
    for refusal in refused_in_either_role(foreign, usual()) {
        assert!(matches!(refusal, PeerRefusal::Chain(_)), "{refusal:?}");
    }
    // A catalog's authority does not vouch for names of another one.
    let named = Wanted { catalog: CatalogId([0xcb; 16]), ..Wanted::default() };
    let fleet = Fleet::new();
    let (named, own) =
        (Device::with(fleet.issue(named)), Device::with(fleet.issue(Wanted::default())));
    let refused = connect(&own.client(usual()), &named.server(usual()));
    assert!(matches!(refused.of_client(), PeerRefusal::Catalog(found) if found.0 == [0xcb; 16]));
}

#[test]
fn a_peer_whose_certificate_is_good_for_updates_alone_is_refused() {
    let update_only = Wanted { profile: Profile::UpdateOnly, ..Wanted::default() };
    for refusal in refused_in_either_role(|fleet| fleet.issue(update_only), usual()) {
        assert!(matches!(refusal, PeerRefusal::Usage), "{refusal:?}");
    }
}

#[test]
fn a_peer_whose_certificate_has_ended_is_refused() {
    let ended = Wanted { valid_s: 60, ago_s: 61, ..Wanted::default() };
    for refusal in refused_in_either_role(|fleet| fleet.issue(ended), usual()) {
        let ended = matches!(refusal, PeerRefusal::Chain(webpki::Error::CertExpired { .. }));
        assert!(ended, "{refusal:?}");
    }
}

#[test]
fn another_app_another_device_and_another_grade_are_refused() {
    let policy = PeerPolicy { component: Some(CAMERA), ..usual() };
    for component in [Some(PUMP), None] {
        let other = Wanted { component, ..Wanted::default() };
        for refusal in refused_in_either_role(|fleet| fleet.issue(other), policy.clone()) {
            let PeerRefusal::Component { wanted, found } = refusal else { panic!("{refusal:?}") };
            assert_eq!((wanted, found), (CAMERA, component));
        }
    }
    let policy = PeerPolicy { device: Some("de".repeat(32).parse().unwrap()), ..usual() };
    let other = Wanted { device: 0xdf, ..Wanted::default() };
    for refusal in refused_in_either_role(|fleet| fleet.issue(other), policy) {
        assert!(matches!(refusal, PeerRefusal::Device(_)), "{refusal:?}");
    }
    let policy = PeerPolicy { grades: vec![Grade::Hardware], ..usual() };
    let other = Wanted { grade: ServiceGrade::Software, ..Wanted::default() };
    for refusal in refused_in_either_role(|fleet| fleet.issue(other), policy) {
        assert!(matches!(refusal, PeerRefusal::Grade(Grade::Software)), "{refusal:?}");
    }
}

#[test]
fn tls_12_is_refused() {
    let fleet = Fleet::new();
    let (own, other) = (fleet.issue(Wanted::default()), fleet.issue(Wanted::default()));
    let (chain, key) = (other.chain.clone(), other.key_der.clone());
    let device = Device::with(own);
    let verifier = Arc::new(PeerVerifier::new(&device.app, usual()));
    let connections = |version| -> [Outcome; 2] {
        let client = plain_client(verifier.clone(), &chain, &key, &[version]);
        let all = rustls::crypto::ring::default_provider();
        let server = plain_server(all, verifier.clone(), &chain, &key, &[version]);
        let (own_client, own_server) = (device.client(usual()), device.server(usual()));
        [connect(&client, &own_server), connect(&own_client, &server)]
    };
    for taken in connections(&TLS13) {
        taken.succeeded();
    }
    for refused in connections(&TLS12) {
        refused.failed();
    }
    // What cannot be signed is not negotiated.
    let mut longer = rustls::crypto::ring::default_provider();
    longer.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
    let server = plain_server(longer, verifier, &chain, &key, &[&TLS13]);
    connect(&device.client(usual()), &server).failed();
    assert_eq!(crypto_provider().cipher_suites.len(), 2);
}

#[test]
fn a_broker_with_an_authority_of_its_own_is_verified_by_name() {
    let fleet = Fleet::new();
    let device = Device::with(fleet.issue(Wanted::default()));
    let broker = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap().der().to_vec();
        let verifier = Arc::new(PeerVerifier::new(&device.app, usual()));
        let all = rustls::crypto::ring::default_provider();
        let chain = [certificate.clone()];
        (certificate, plain_server(all, verifier, &chain, &key.serialize_der(), &[&TLS13]))
    };
    let (certificate, server) = broker("nobody.example.com");
    let client = Arc::new(device.app.client_for(roots(&certificate)).unwrap());
    let outcome = connect(&client, &server);
    // The broker is no peer, so that only it can say who the other side is.
    let found = outcome.server.unwrap().peer.unwrap();
    assert_eq!(&found, device.app.current().unwrap().own());
    outcome.client.unwrap();
    let (certificate, server) = broker("other.example.com");
    let client = Arc::new(device.app.client_for(roots(&certificate)).unwrap());
    let refused = connect(&client, &server).client.unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
}

#[test]
fn nothing_but_a_handshake_is_signed() {
    let fleet = Fleet::new();
    let device = Device::with(fleet.issue(Wanted::default()));
    let key = device.app.certified_key().unwrap();
    key.keys_match().unwrap();
    assert!(key.key.choose_scheme(&[SignatureScheme::ED25519]).is_none());
    let signer = key.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let context = b"TLS 1.3, client CertificateVerify\0";
    let handshake = [&[0x20; 64][..], context, &[7; 32]].concat();
    signer.sign(&handshake).unwrap();
    for other in [&b"a text"[..], &handshake[..129], &handshake[1..], &[]] {
        let rustls::Error::Other(cause) = signer.sign(other).unwrap_err() else { panic!() };
        assert!(cause.0.downcast_ref::<SigningError>().is_some(), "{cause:?}");
    }
    assert_eq!(device.service.signed(), 1, "the service was asked");
}

#[test]
fn a_renewed_certificate_is_used_at_the_next_handshake() {
    let fleet = Fleet::new();
    let (camera, pump) = pair(&fleet, Wanted::default(), Wanted::default());
    let policy = PeerPolicy { least_rollback_index: INDEX + 1, ..usual() };
    let (client, server) = (camera.client(usual()), pump.server(policy));
    let refused = connect(&client, &server).of_server();
    assert!(matches!(refused, PeerRefusal::Release { .. }), "{refused:?}");
    let before = camera.app.current().unwrap();
    let old_key = camera.app.certified_key().unwrap();
    let none = camera.app.wait_for_renewal(&before, Duration::from_millis(100)).unwrap_err();
    assert!(matches!(none, IdentityError::NotYet { last: None, .. }), "{none:?}");
    camera.service.renew(fleet.issue(Wanted { index: INDEX + 1, ..Wanted::default() }));
    let after = camera.app.wait_for_renewal(&before, PATIENCE).unwrap();
    assert_eq!(after.own().release.rollback_index, INDEX + 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(camera.app.outdated(&before));
    assert_eq!(runtime.block_on(camera.app.certificate()).chain(), after.chain());
    connect(&client, &server).succeeded();
    // A handshake that began with the certificate before does not end with a signature by another key.
    let signer = old_key.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let context = b"TLS 1.3, client CertificateVerify\0";
    let refused = signer.sign(&[&[0x20; 64][..], context, &[7; 32]].concat()).unwrap_err();
    assert!(refused.to_string().contains("renewed during the handshake"), "{refused}");
}

#[test]
fn an_app_outlives_the_identity_service() {
    let fleet = Fleet::new();
    let (mut camera, pump) = pair(&fleet, Wanted::default(), Wanted::default());
    let (client, server) = (camera.client(usual()), pump.server(usual()));
    connect(&client, &server).succeeded();
    camera.service.end();
    let begun = Instant::now();
    connect(&client, &server).failed();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "a handshake waits for a service that is gone"
    );
    camera.service.accept();
    let deadline = Instant::now() + Duration::from_secs(30);
    while connect(&client, &server).client.is_err() {
        assert!(Instant::now() < deadline, "the app does not connect again");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_app_without_a_certificate_is_told_why() {
    let fleet = Fleet::new();
    let service = Service::start(None);
    let app = Identity::connect_to(&service.address()).unwrap();
    let none = app.wait(Duration::from_secs(2)).unwrap_err();
    let IdentityError::NotYet { last: Some(ServiceError::NoCertificate), .. } = none else {
        panic!("{none:?}");
    };
    // It takes nobody, and is taken by nobody.
    let control = Device::with(fleet.issue(Wanted::default()));
    let client = Arc::new(app.client_for_peers(usual()).unwrap());
    let refused = connect(&client, &control.server(usual())).of_client();
    assert!(matches!(refused, PeerRefusal::NoRoots), "{refused:?}");
    let server = Arc::new(app.server_for_peers(usual()).unwrap());
    connect(&control.client(usual()), &server).failed();
    service.renew(fleet.issue(Wanted::default()));
    app.wait(PATIENCE).unwrap();
    connect(&client, &control.server(usual())).succeeded();
    // What is taken from it, it uses no longer, and is told.
    let held = app.current().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    service.withdraw();
    let told = async { tokio::time::timeout(PATIENCE, app.outdated(&held)).await };
    runtime.block_on(told).unwrap();
    assert!(app.current().is_none());
    connect(&client, &control.server(usual())).failed();
    let nowhere = Identity::connect_to("unix:path=/nonexistent/identity").unwrap();
    let none = nowhere.wait(Duration::from_secs(2)).unwrap_err();
    let cannot = matches!(none, IdentityError::NotYet { last: Some(ServiceError::Connect(_)), .. });
    assert!(cannot, "{none:?}");
}

#[test]
fn certificates_are_read_as_the_security_service_writes_them() {
    let fleet = Fleet::new();
    for (grade, theirs) in Grade::ALL.into_iter().zip(ServiceGrade::ALL) {
        assert_eq!(grade.word(), theirs.word());
        assert_eq!(policy_of(theirs).last(), Some(&u64::from(grade.policy())));
        let held = fleet.issue(Wanted { grade: theirs, index: u64::MAX, ..Wanted::default() });
        let leaf = &held.chain[0];
        let peer = Peer::read(leaf).unwrap();
        assert_eq!((peer.grade, peer.release.rollback_index), (grade, u64::MAX));
        assert!(held.until > now());
        // No authority is a peer.
        Peer::read(&held.chain[1]).unwrap_err();
        Peer::read(&fleet.root).unwrap_err();
        for cut in 0..leaf.len() {
            Peer::read(&leaf[..cut]).unwrap_err();
        }
        for at in 0..leaf.len() {
            let mut changed = leaf.clone();
            changed[at] ^= 0x80;
            // It must say something, and not end the app.
            let _ = Peer::read(&changed);
        }
    }
    assert_eq!(release_extension(), [1, 3, 6, 1, 4, 1, 32473, 1, 3, 1]);
}
