//! One upload, from what waits to what was stored, with a service at this host.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "the module is there in tests alone, and a panic is a failed test"
)]

use super::*;
use crate::device_certificate::{SignHandshake, SigningError};
use crate::service_in_tests::{Authority, Identity, NOW, Request, service_for};
use crate::verifier::Moment;
use holdfast_failure_reports::batch::{self, Batch, Epoch};
use holdfast_failure_reports::{frame, samples};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Mutex;

/// A device whose key signs here.
struct Device {
    chain: Option<Vec<u8>>,
    key: Vec<u8>,
}

impl Device {
    fn with(Identity { der, key }: Identity) -> Self {
        Self { chain: Some(der), key }
    }
}

impl Parts for Device {
    fn identity(&mut self, request: &ExchangeRequest) -> Result<ExchangeReply, AttemptError> {
        assert_eq!(*request, ExchangeRequest::Chain);
        Ok(match &self.chain {
            Some(leaf) => ExchangeReply::Chain(vec![leaf.clone()]),
            None => ExchangeReply::Failed,
        })
    }

    fn moment(&mut self) -> Result<Moment, AttemptError> {
        Ok(NOW)
    }

    fn signer(&mut self) -> Result<Arc<SignHandshake>, AttemptError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = default_provider().key_provider.load_private_key(key).unwrap();
        Ok(Arc::new(move |hash| {
            let schemes = [rustls::SignatureScheme::ECDSA_NISTP256_SHA256];
            let signer = key.choose_scheme(&schemes).unwrap();
            let context = &b"TLS 1.3, client CertificateVerify\0"[..];
            let content = [&[b' '; 64][..], context, &hash].concat();
            signer.sign(&content).map_err(|_| SigningError::Refused)
        }))
    }
}

/// What `report` has, a batch for each element.
#[derive(Debug, Default)]
struct Waiting {
    batches: Vec<(Vec<u8>, u64)>,
    stored: u64,
    asked: Vec<ReportExchangeRequest>,
}

impl Waiting {
    /// Two batches, of the numbers 1 to 5 and 6 to 10.
    fn two() -> Self {
        let records = samples::records();
        let batches = records.chunks(5).map(|records| {
            let mut bytes = batch::begin(Epoch([7; 8]));
            bytes.extend(records.iter().flat_map(|record| frame::encode(record).unwrap()));
            (bytes, records.last().unwrap().sequence)
        });
        Self { batches: batches.collect(), ..Self::default() }
    }
}

impl Reports for Waiting {
    fn ask(&mut self, request: &ReportExchangeRequest) -> Result<ReportExchangeReply, UploadError> {
        self.asked.push(request.clone());
        Ok(match request {
            ReportExchangeRequest::Begin | ReportExchangeRequest::Next => {
                let next = self.batches.iter().find(|(_, through)| *through > self.stored);
                next.map_or(ReportExchangeReply::Nothing, |(bytes, through)| {
                    ReportExchangeReply::Batch { bytes: bytes.clone(), through: *through }
                })
            }
            ReportExchangeRequest::Stored(through) => {
                self.stored = *through;
                ReportExchangeReply::Done
            }
            _ => ReportExchangeReply::Done,
        })
    }
}

type Received = Arc<Mutex<Vec<(Option<Vec<u8>>, Vec<u64>)>>>;

/// A service that stores what it is sent, up to a number.
fn storing(devices: &Authority, most: u64, received: &Received) -> DevicePort {
    let received = Arc::clone(received);
    service_for(devices, move |request: &mut Request| {
        assert_eq!(request.path(), PATH);
        assert!(request.head.contains(&format!("Content-Type: {MEDIA_TYPE}\r\n")));
        let body = request.body();
        let numbers: Vec<u64> =
            Batch::decode(&body).unwrap().records.iter().map(|record| record.sequence).collect();
        let stored = numbers.last().unwrap().min(&most).to_owned();
        received.lock().unwrap().push((request.certificate(), numbers));
        request.answer(200, "", format!("{{\"stored\": {stored}}}").as_bytes());
    })
}

#[test]
fn what_waits_is_sent_by_the_devices_certificate_until_nothing_is_left() {
    let devices = Authority::new();
    let identity = devices.certificate("device", (2025, 2027));
    let leaf = identity.der.clone();
    let received = Received::default();
    let port = storing(&devices, u64::MAX, &received);
    let mut waiting = Waiting::two();
    let sent = upload(&mut Device::with(identity), &mut waiting, &port);
    assert_eq!((sent.unwrap(), waiting.stored), (2, 10));
    let received = received.lock().unwrap();
    let numbers: Vec<_> = received.iter().map(|(_, numbers)| numbers.clone()).collect();
    assert_eq!(numbers, [(1..=5).collect::<Vec<u64>>(), (6..=10).collect()]);
    assert!(received.iter().all(|(certificate, _)| certificate.as_ref() == Some(&leaf)));
}

#[test]
fn a_service_that_stores_less_is_not_sent_the_same_for_ever() {
    let devices = Authority::new();
    let mut device = Device::with(devices.certificate("device", (2025, 2027)));
    let received = Received::default();
    let port = storing(&devices, 3, &received);
    let mut waiting = Waiting::two();
    assert_eq!(upload(&mut device, &mut waiting, &port).unwrap(), 1);
    assert_eq!(waiting.stored, 3);
    assert_eq!(received.lock().unwrap().len(), 1);
}

#[test]
fn an_upload_that_fails_is_told_to_report_and_nothing_is_forgotten() {
    let devices = Authority::new();
    let refusing = service_for(&devices, |request: &mut Request| {
        request.answer(503, "", b"{}");
    });
    let babbling = service_for(&devices, |request: &mut Request| {
        request.body();
        request.answer(200, "", b"{\"stored\": \"all\"}");
    });
    for port in [refusing, babbling] {
        let mut device = Device::with(devices.certificate("device", (2025, 2027)));
        let mut waiting = Waiting::two();
        let failed = upload(&mut device, &mut waiting, &port).unwrap_err();
        assert!(matches!(failed, UploadError::Refused(503) | UploadError::Answer(_)), "{failed:?}");
        assert_eq!(waiting.asked, [ReportExchangeRequest::Begin, ReportExchangeRequest::Failed]);
    }
}

#[test]
fn a_device_without_a_certificate_sends_nothing() {
    let devices = Authority::new();
    let received = Received::default();
    let port = storing(&devices, u64::MAX, &received);
    let mut device = Device { chain: None, key: Vec::new() };
    let failed = upload(&mut device, &mut Waiting::two(), &port).unwrap_err();
    assert!(matches!(failed, UploadError::Identity(AttemptError::IdentityFailed)), "{failed:?}");
    assert!(received.lock().unwrap().is_empty());
}
