//! A device that reports, with the certificate of its check-in.

use crate::checked_in;
use crate::client::{Answer, Client, Target};
use crate::post;
use crate::software_device::{SoftwareDevice, point, software_key};
use holdfast_evidence::claims::AppClaim;
use holdfast_evidence::messages::CHECK_IN_PATH;
use holdfast_evidence::qualifying::Purpose;
use holdfast_failure_reports::batch::{Epoch, MEDIA_TYPE, PATH, begin};
use holdfast_failure_reports::frame;
use holdfast_failure_reports::record::Record;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::sync::Arc;

/// What a device shows in a handshake: a chain of certificates, and the key of the first.
#[derive(Debug)]
pub struct Shown {
    /// The chain, DER.
    pub chain: Vec<Vec<u8>>,
    /// The key, PKCS #8.
    pub key: Vec<u8>,
}

impl Clone for Shown {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone() }
    }
}

impl Shown {
    /// Connects, and shows it.
    ///
    /// # Errors
    /// The handshake has failed.
    pub fn try_connect(&self, target: &Target) -> std::io::Result<Client> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(target.authorities.clone());
        let chain = self.chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).unwrap();
        // Whether the key is that of the certificate is the service's to find out.
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        target.try_connect_with(config.with_client_cert_resolver(Arc::new(shown)))
    }

    /// Sends bytes as a batch, over a connection of its own.
    #[must_use]
    pub fn report(&self, target: &Target, batch: &[u8]) -> Answer {
        report(&mut self.try_connect(target).expect("a handshake"), batch)
    }
}

/// Sends bytes as a batch.
pub fn report(client: &mut Client, batch: &[u8]) -> Answer {
    client.ask("POST", PATH, &format!("Content-Type: {MEDIA_TYPE}\r\n"), batch)
}

/// Makes a batch.
#[must_use]
pub fn batch(epoch: u8, records: &[Record]) -> Vec<u8> {
    let mut batch = begin(Epoch([epoch; 8]));
    batch.extend(records.iter().flat_map(|record| frame::encode(record).unwrap()));
    batch
}

/// A key for a certificate: as it signs, and as TLS takes it.
fn leaf_key() -> (EcdsaKeyPair, Vec<u8>) {
    let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    (key, pkcs8.as_ref().to_vec())
}

impl SoftwareDevice {
    /// Checks in with a key that it keeps, and returns what it can show then.
    pub fn check_in_to_show(&mut self, target: &Target) -> Shown {
        self.check_in_to_show_as(target, Purpose::Device)
    }

    /// Checks in with a key for an app besides its own, and returns what that app can show.
    pub fn check_in_to_show_app(&mut self, target: &Target, app: AppClaim) -> Shown {
        let purpose = Purpose::App(app.id);
        if !self.claims.apps.iter().any(|claim| claim.id == app.id) {
            self.claims.apps.push(app);
        }
        self.check_in_to_show_as(target, purpose)
    }

    fn check_in_to_show_as(&mut self, target: &Target, purpose: Purpose) -> Shown {
        let mut client = target.connect();
        let (key, pkcs8) = leaf_key();
        let mut keys = vec![(purpose, point(&key))];
        if purpose != Purpose::Device {
            keys.insert(0, (Purpose::Device, point(&software_key())));
        }
        let request = self.request_with(&client.exporter(&self.id.0), &keys);
        let answer = checked_in(&post(&mut client, CHECK_IN_PATH, &request));
        self.receipt = Some(answer.receipt);
        let mut issued = answer.certificates.into_iter();
        let issued = issued.find(|issued| issued.holder.0 == purpose).unwrap();
        Shown { chain: issued.chain.into_iter().map(|bytes| bytes.0).collect(), key: pkcs8 }
    }
}
