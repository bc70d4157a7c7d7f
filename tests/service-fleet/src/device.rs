//! A device: its key, its receipt and its schedule, in some hundred bytes, so that a million of them have room.

use holdfast_evidence::messages::{Bytes, CatalogId, CheckInRequest, DeviceId};
use holdfast_evidence::qualifying::Exporter;
use holdfast_evidence::schedule::{Action, Schedule};
use holdfast_service_clients::SoftwareDevice;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

/// Where a key's secret number lies in PKCS #8 as ring makes it.
const SECRET: std::ops::Range<usize> = 36..68;

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    secret: [u8; 32],
    pub(crate) point: [u8; 65],
    pub(crate) id: DeviceId,
    receipt: Option<Bytes>,
    pub(crate) schedule: Schedule,
    /// When its certificate ends, in seconds since 1970; 0 where it never had one.
    pub(crate) certificate_end: u64,
}

impl Device {
    /// Makes one that has been there for long, with the time of its next check-in.
    pub(crate) fn new(schedule: Schedule) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let point: [u8; 65] = key.public_key().as_ref().try_into().unwrap();
        let secret = pkcs8.as_ref()[SECRET].try_into().unwrap();
        let id = DeviceId::of_software_key(&point);
        Self { secret, point, id, receipt: None, schedule, certificate_end: 0 }
    }

    /// Returns its next second.
    pub(crate) fn due(&self, now: u64) -> u64 {
        match self.schedule.action(now * 1000) {
            Action::CheckIn | Action::Look => now,
            Action::Wait(ms) => now + ms.div_ceil(1000),
        }
    }

    /// Makes a check-in.
    pub(crate) fn request(&self, catalog: CatalogId, exporter: &Exporter) -> CheckInRequest {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::from_private_key_and_public_key(
            algorithm,
            &self.secret,
            &self.point,
            &random,
        );
        let mut device = SoftwareDevice::with_key(catalog, key.unwrap());
        assert_eq!(device.id, self.id);
        device.receipt = self.receipt.clone();
        device.request(exporter)
    }

    /// Keeps what a check-in has brought.
    pub(crate) fn keep(&mut self, receipt: Bytes, certificate_end: u64) {
        (self.receipt, self.certificate_end) = (Some(receipt), certificate_end);
    }
}
