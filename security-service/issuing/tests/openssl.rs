//! What OpenSSL makes of our certificates: it takes full ones, refuses those for updates, and tells grades by their policies.

#![allow(
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::Purpose;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::leaf::{Common, Leaf, policy_of};
use holdfast_service_issuing::IssuingError;
use holdfast_service_issuing::authority::{Made, make_issuing, make_root};
use holdfast_service_issuing::issuer::LeafIssuer;
use holdfast_service_issuing::lint;
use holdfast_types::Version;
use rcgen::{KeyPair, PublicKeyData};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const CATALOG: CatalogId = CatalogId([0xca; 16]);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

struct Chain {
    root: Made,
    issuing: Made,
    issuer: LeafIssuer,
}

impl Chain {
    fn make() -> Self {
        let root = make_root(&CATALOG, now()).unwrap();
        let issuing = make_issuing(&CATALOG, root.key.serialized_der(), now()).unwrap();
        let key = issuing.key.serialize_der();
        let certificate = issuing.certificate.clone();
        let end = issuing.not_after;
        let issuer = LeafIssuer::new(&CATALOG, &issuing.serial, certificate, &key, end).unwrap();
        Self { root, issuing, issuer }
    }
}

fn leaf(profile: Profile, grade: Grade) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let common = Common {
        catalog: CATALOG,
        device: DeviceId([0xde; 32]),
        grade,
        profile,
        version: Version { major: 1, minor: 4, patch: 0 },
        index: 7,
        now: now(),
        valid_s: 3600,
    };
    Leaf::new(&common, Purpose::Device, Point::from_uncompressed(key.der_bytes()).unwrap())
}

fn pem(directory: &Path, name: &str, certificate: &[u8]) -> String {
    let der = directory.join(format!("{name}.der"));
    std::fs::write(&der, certificate).unwrap();
    let pem = directory.join(format!("{name}.pem"));
    let mut convert = Command::new("openssl");
    convert.args(["x509", "-inform", "der", "-in"]).arg(&der).arg("-out").arg(&pem);
    assert!(convert.status().unwrap().success());
    pem.to_str().unwrap().to_owned()
}

/// True if `openssl verify` takes the leaf, with what it said.
fn verified(chain: &Chain, leaf: &[u8], arguments: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name, certificate| pem(directory.path(), name, certificate);
    let root = file("root", &chain.root.certificate);
    let issuing = file("issuing", &chain.issuing.certificate);
    let leaf = file("leaf", leaf);
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &issuing]);
    let output = command.args(arguments).arg(&leaf).output().unwrap();
    let said = format!("{output:?}");
    (output.status.success(), said)
}

#[test]
fn openssl_takes_full_certificates_and_refuses_those_for_updates() {
    let chain = Chain::make();
    let full = chain.issuer.issue(&leaf(Profile::Full, Grade::Hardware)).unwrap();
    for purpose in ["sslclient", "sslserver"] {
        let (taken, said) = verified(&chain, &full, &["-purpose", purpose]);
        assert!(taken, "{purpose}: {said}");
    }
    let update = chain.issuer.issue(&leaf(Profile::UpdateOnly, Grade::Hardware)).unwrap();
    let (taken, said) = verified(&chain, &update, &[]);
    assert!(taken, "the control: the chain is good: {said}");
    for purpose in ["sslclient", "sslserver"] {
        let (taken, _) = verified(&chain, &update, &["-purpose", purpose]);
        assert!(!taken, "{purpose}");
    }
}

#[test]
fn a_relying_party_asks_for_a_grade_by_its_policy() {
    let chain = Chain::make();
    for grade in Grade::ALL {
        let certificate = chain.issuer.issue(&leaf(Profile::Full, grade)).unwrap();
        for asked in Grade::ALL {
            let policy: Vec<String> = policy_of(asked).iter().map(u64::to_string).collect();
            let policy = policy.join(".");
            let arguments = ["-explicit_policy", "-policy", &policy];
            let (taken, said) = verified(&chain, &certificate, &arguments);
            assert_eq!(taken, grade == asked, "{grade} where {asked} is asked for: {said}");
        }
    }
}

#[test]
fn the_second_verifier_takes_the_authority_and_another_root_is_refused() {
    let chain = Chain::make();
    lint::check(&CATALOG, &chain.issuer, &chain.root.certificate, now()).unwrap();
    let other = make_root(&CATALOG, now()).unwrap();
    let refused = lint::check(&CATALOG, &chain.issuer, &other.certificate, now());
    assert!(matches!(refused, Err(IssuingError::Lint { .. })), "{refused:?}");
}

#[test]
fn a_leaf_does_not_outlive_what_has_issued_it() {
    let chain = Chain::make();
    let mut long = leaf(Profile::Full, Grade::Hardware);
    long.not_after = chain.issuing.not_after;
    chain.issuer.issue(&long).unwrap();
    long.not_after += 1;
    assert!(matches!(chain.issuer.issue(&long), Err(IssuingError::Outlived)));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (chain, other) = (Chain::make(), Chain::make());
    let key = other.issuing.key.serialize_der();
    let certificate = chain.issuing.certificate.clone();
    let made = LeafIssuer::new(&CATALOG, &chain.issuing.serial, certificate, &key, u64::MAX);
    assert!(matches!(made, Err(IssuingError::OtherKey)));
}

/// Both sides of a rotation are believed by who holds the root.
#[test]
fn leaves_of_the_old_and_the_new_issuing_certificate_verify_beside_each_other() {
    let old = Chain::make();
    let next = make_issuing(&CATALOG, old.root.key.serialized_der(), now()).unwrap();
    let key = next.key.serialize_der();
    let certificate = next.certificate.clone();
    let issuer =
        LeafIssuer::new(&CATALOG, &next.serial, certificate, &key, next.not_after).unwrap();
    for issuer in [&old.issuer, &issuer] {
        let usage = webpki::KeyUsage::client_auth();
        let leaf = issuer.issue(&leaf(Profile::Full, Grade::Hardware)).unwrap();
        let root = &old.root.certificate;
        lint::verify_chain(&leaf, issuer.certificate(), root, usage, now()).unwrap();
    }
}
