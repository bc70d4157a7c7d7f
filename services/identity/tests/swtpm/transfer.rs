//! A device goes to another owner, by a voucher of the one before and by nothing else.

use crate::service::Service;
use crate::transport::{Shared, Way};
use crate::{Around, CATALOG, E1, body, check_in, enrol, keys_of, measured};
use holdfast_evidence::attest::Signature;
use holdfast_evidence::config::IdentityConfig;
use holdfast_evidence::exchange::{ExchangeReply, ExchangeRequest};
use holdfast_evidence::messages::{EnrolKey, EnrolRequest};
use holdfast_evidence::service::Ring;
use holdfast_evidence::transfer::{Chain, Transfer, Voucher};
use holdfast_identity::device::Device;
use holdfast_identity::keys::Keys;
use holdfast_identity::tpm::Tpm;
use holdfast_identity::tpm_keys::Endorsed;
use holdfast_types::CatalogId;
use holdfast_types::event::identity as event;
use rcgen::{CertificateParams, KeyPair, SigningKey};

const NEXT_CATALOG: CatalogId = CatalogId([0xcb; 16]);
const NOW: u64 = 1_790_000_000;

/// A catalog's root.
struct Root {
    key: KeyPair,
    certificate: Vec<u8>,
}

fn root() -> Root {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    Root { certificate: made.der().to_vec(), key }
}

impl Root {
    fn voucher(&self, device: &Device, to: &Self) -> Vec<u8> {
        let transfer = Transfer {
            device: device.keys().id().0,
            from: CATALOG,
            to: NEXT_CATALOG,
            root: to.certificate.clone(),
            epoch: 1,
            ends_at: NOW + 60,
        };
        let signature = self.key.sign(&transfer.signed_bytes().unwrap()).unwrap();
        Voucher::new(transfer, &Signature::from_der(&signature).unwrap()).encode().unwrap()
    }
}

/// The start of the service, with what lies in `state`.
fn start(tpm: &Shared, image: &IdentityConfig, around: &Around) -> Device {
    let endorsed = Endorsed::begin(Tpm::new(Box::new(Way(Shared::clone(tpm))))).unwrap();
    let (owner, owners, refused) = around.owners.owner(image, &endorsed.id(), &Ring);
    assert_eq!(refused, None);
    drop(endorsed);
    let keys = Keys::Tpm(keys_of(tpm, &owner));
    Device::new(owner, owners, keys, around.saved.clone())
}

/// A device that is enrolled in the catalog of its image, and two roots: that of its catalog, and the next one's.
struct Scene {
    tpm: Shared,
    image: IdentityConfig,
    from: Root,
    to: Root,
    around: Around,
    service: Service,
    device: Device,
}

fn scene() -> Scene {
    let tpm = measured();
    let (from, to) = (root(), root());
    let image =
        IdentityConfig { catalog: CATALOG, catalog_root: from.certificate.clone(), epoch: 0 };
    let mut around = Around { now: Some(NOW), ..Around::default() };
    let mut service = Service::new();
    let mut device = start(&tpm, &image, &around);
    enrol(&mut device, &mut around, &mut service);
    Scene { tpm, image, from, to, around, service, device }
}

fn follow(device: &mut Device, around: &mut Around, voucher: Vec<u8>) -> ExchangeReply {
    device.answer(&ExchangeRequest::Follow(voucher), around)
}

fn attestation_key(device: &mut Device, around: &mut Around) -> (CatalogId, Vec<u8>) {
    let request = body(device, around, ExchangeRequest::Enrol(E1));
    let request: EnrolRequest = serde_json::from_slice(&request).unwrap();
    let EnrolKey::Tpm { ak, .. } = request.key else { panic!("it has a TPM") };
    (request.catalog, ak.0)
}

#[test]
fn a_transferred_device_enrols_with_another_key_and_forgets_its_certificates() {
    let Scene { tpm, image, from, to, mut around, mut service, mut device } = scene();
    check_in(&mut device, &mut around, &mut service);
    let (_, before) = attestation_key(&mut device, &mut around);
    let voucher = from.voucher(&device, &to);

    assert_eq!(follow(&mut device, &mut around, voucher.clone()), ExchangeReply::Followed);
    assert!(device.has_followed());
    assert!(around.has_logged(event::IDENTITY_TRANSFERRED, &NEXT_CATALOG.to_string()));
    let chain = device.answer(&ExchangeRequest::Chain, &mut around);
    assert_eq!(chain, ExchangeReply::Failed, "of the catalog before it has no certificate");
    let again = follow(&mut device, &mut around, voucher);
    assert_eq!(again, ExchangeReply::Failed, "it belongs to another catalog");
    drop(device);

    let mut device = start(&tpm, &image, &around);
    let id = device.keys().id();
    let described = device.answer(&ExchangeRequest::Describe, &mut around);
    assert_eq!(described, ExchangeReply::device(&id, false, false), "it is to enrol");
    let (catalog, after) = attestation_key(&mut device, &mut around);
    assert_eq!((catalog, device.catalog_root()), (NEXT_CATALOG, to.certificate.as_slice()));
    assert_ne!(after, before, "the catalog before does not recognize it");
    // An image of the new owner finds the same keys.
    let next = IdentityConfig { catalog: NEXT_CATALOG, catalog_root: to.certificate, epoch: 0 };
    drop(device);
    let mut device = start(&tpm, &next, &around);
    assert_eq!(attestation_key(&mut device, &mut around), (NEXT_CATALOG, after));
}

#[test]
fn a_voucher_that_is_refused_or_cannot_be_kept_changes_nothing() {
    let Scene { from, to, mut around, mut service, mut device, .. } = scene();
    let good = from.voucher(&device, &to);
    let forged = to.voucher(&device, &to);
    for (voucher, says) in [
        (forged, "has not signed the voucher"),
        (good[..good.len() - 1].to_vec(), "malformed"),
        (Vec::new(), "malformed"),
        (vec![0; 9000], "more than"),
    ] {
        assert_eq!(follow(&mut device, &mut around, voucher), ExchangeReply::Failed);
        assert!(
            around.has_logged(event::IDENTITY_TRANSFER_REFUSED, says),
            "{says}: {:?}",
            around.log
        );
    }
    around.now = Some(NOW + 60);
    assert_eq!(follow(&mut device, &mut around, good.clone()), ExchangeReply::Failed);
    assert!(around.has_logged(event::IDENTITY_TRANSFER_REFUSED, "ended"));
    around.now = None;
    around.on_trial = true;
    assert_eq!(follow(&mut device, &mut around, good.clone()), ExchangeReply::Failed);
    assert!(around.has_logged(event::IDENTITY_TRANSFER_REFUSED, "on trial"));
    (around.on_trial, around.cannot_save) = (false, true);
    assert_eq!(follow(&mut device, &mut around, good.clone()), ExchangeReply::Failed);
    assert!(around.has_logged(event::IDENTITY_TRANSFER_REFUSED, "the medium is full"));
    assert_eq!((device.has_followed(), &around.owners), (false, &Chain::default()));
    check_in(&mut device, &mut around, &mut service);
    around.cannot_save = false;
    let followed = follow(&mut device, &mut around, good);
    assert_eq!(followed, ExchangeReply::Followed, "the control, of a device without a time");
}
